"""Shared by the tests of all inference methods: problems whose posterior is known, and a run of a method on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynapilco.inference import BayesianModel, Gaussian, StackedNetwork, Target, fit
from dynapilco.inference.priors import NormalPrior


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=dtype)


@dataclass(frozen=True)
class Conjugate:
    """Bayesian linear regression with known noise: y = X w + b + sigma e, theta = (w, b) ~ N(0, prior_std^2).

    ``mean`` (n,), ``covariance`` (n, n) and ``precision`` (n, n) are the exact posterior's, in float64.
    """

    model: BayesianModel
    target: Target
    mean: Tensor
    covariance: Tensor
    precision: Tensor

    def fitted(self, method, steps=None, seed=0):
        """State of ``method`` after a fit of ``steps`` updates."""
        state = method.init(self.model, gen(seed))
        fit(method, state, self.target, gen(seed + 1), steps=steps or method.cold_steps)
        return state


def conjugate(
    rows: int = 200,
    inputs: int = 4,
    sigma: float = 0.5,
    prior_std: float = 1.0,
    temperature: float = 1.0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Conjugate:
    x = rand(rows, inputs, seed=seed).to(dtype)
    y = (x @ rand(inputs, 1, seed=seed + 1).to(dtype) + 0.3 + sigma * rand(rows, 1, seed=seed + 2).to(dtype)).to(dtype)
    linear = nn.Sequential(nn.Linear(inputs, 1)).to(dtype)
    model = BayesianModel(StackedNetwork(linear), Gaussian(fixed=sigma), NormalPrior(prior_std), 1)
    design = torch.cat([x, torch.ones(rows, 1)], 1).double()
    precision = design.T @ design / sigma**2 + torch.eye(inputs + 1, dtype=torch.float64) / prior_std**2
    covariance = torch.linalg.inv(precision)
    mean = covariance @ (design.T @ y.double()[:, 0]) / sigma**2
    return Conjugate(model, Target(model, x, y, temperature=temperature), mean, covariance, precision)
