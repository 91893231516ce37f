"""Anchored ensembles with target noise are exact for linear Gaussian models (randomise-then-optimise)."""

from dataclasses import dataclass

import pytest
import torch

from dynapilco.inference import Ensemble
from tests.inference.harness import conjugate

MEMBERS = 400
MCSE = 5


def exact(method, temperature=1.0):
    """Mean and every entry of the covariance within 5 Monte Carlo standard errors of the exact posterior's."""
    problem = conjugate(rows=8, inputs=3, sigma=1.0, temperature=temperature)
    members = problem.fitted(method)["params"]
    covariance = temperature * problem.covariance
    error = (members.mean(0) - problem.mean).abs() / (covariance.diagonal() / MEMBERS).sqrt()
    assert error.max() < MCSE
    variances = covariance.diagonal()
    spread = ((variances[:, None] * variances[None, :] + covariance.square()) / (MEMBERS - 1)).sqrt()
    assert ((torch.cov(members.T) - covariance).abs() / spread).max() < MCSE


def ensemble(cls=Ensemble, **options):
    return cls(members=MEMBERS, target_noise=True, learning_rate=0.03, cold_steps=700, **options)


def test_exact_posterior():
    exact(ensemble())


def test_exact_tempered_posterior():
    exact(ensemble(temperature=4.0), temperature=4.0)


def test_without_target_noise_the_spread_is_too_small():
    with pytest.raises(AssertionError):
        exact(Ensemble(members=MEMBERS, learning_rate=0.03, cold_steps=700))


@dataclass(frozen=True)
class HalfNoise(Ensemble):
    """Target noise of the wrong size."""

    def begin(self, state, target, generator):
        super().begin(state, target, generator)
        state["errors"] *= 0.7


@dataclass(frozen=True)
class NoAnchors(Ensemble):
    """The prior centred at zero for all members."""

    def loss(self, state, batch, generator):
        return super().loss({**state, "anchors": torch.zeros_like(state["anchors"])}, batch, generator)


@pytest.mark.parametrize("broken", [HalfNoise, NoAnchors])
def test_the_check_notices_a_broken_factor(broken):
    with pytest.raises(AssertionError):
        exact(ensemble(broken))
