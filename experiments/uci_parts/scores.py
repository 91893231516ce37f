"""Fit one configuration to several splits at once, and score it on the test rows of each."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from uci_parts.splits import Splits

from dynapilco.core.seeding import torch_generator
from dynapilco.inference import make_method
from dynapilco.inference.diagnostics import crps_samples, pit
from dynapilco.inference.fitting import Callback, fit
from dynapilco.inference.likelihoods import make_likelihood
from dynapilco.inference.method import replica
from dynapilco.inference.network import StackedNetwork, mlp
from dynapilco.inference.predictive import predictive_of
from dynapilco.inference.priors import make_prior
from dynapilco.inference.random import global_generator_from
from dynapilco.inference.target import BayesianModel, Target

HIDDEN = (50,)
FLOOR = 0.01
"""Smallest noise scale, in standard deviations of the training targets."""
DRAWS = 200
SAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """Of one split, in the units of the data.

    Attributes
    ----------
    nll : float
        Mean over test rows of -log density of the mixture of all drawn functions, nats.
    nll_gaussian : float
        The same for the Gaussian of the mixture's mean and variance.
    rmse, crps : float
        Of the mean prediction; of ``SAMPLES`` predictive samples (fair estimator).
    coverage : float
        Fraction of test targets inside the central 95 % interval.
    """

    nll: float
    nll_gaussian: float
    rmse: float
    crps: float
    coverage: float


METRICS = tuple(f.name for f in fields(Score))
FAILED = Score(*[math.nan] * len(METRICS))


@dataclass(frozen=True)
class Outcome:
    """Scores of all splits (NaN where fit or predictions diverged), and CPU seconds per split for all but scoring."""

    scores: list[Score]
    seconds: float
    diverged: bool


def run(
    settings: dict[str, Any], data: Splits, seed: int, draws: int = DRAWS, callback: Callback | None = None
) -> Outcome:
    """Fit all splits of ``data`` at once, as replicas, and score each.

    Parameters
    ----------
    settings : dict
        ``Config.settings``: method, likelihood and prior with their options.
    draws : int
        Functions that a prediction averages over.
    """
    began = time.process_time()
    generator = torch_generator(seed, f"uci/{data.name}/{settings['method']}/{len(data.numbers)}")
    model = make_model(settings, data.x_train.shape[-1], generator)
    method = make_method(settings["method"], dict(settings["options"]))
    method.check(model)
    sets = len(data.numbers)
    state = method.init(model, generator, replicas=sets)
    target = Target(model, data.x_train, data.y_train, temperature=method.temperature)
    report = fit(method, state, target, generator, steps=method.cold_steps, callback=callback)
    distributions = []
    for r in range(sets):
        draw = method.draw(model, replica(state, r, sets), draws, generator)
        with torch.no_grad():
            if report.diverged or not bool(torch.isfinite(draw(data.x_test[r])).all()):
                return Outcome([FAILED] * sets, (time.process_time() - began) / sets, True)
            distributions.append(draw.predictive(data.x_test[r]))
    seconds = (time.process_time() - began) / sets
    triples = zip(distributions, data.y_test, data.y_std, strict=True)
    scores = [score(distribution, y, float(std), generator) for distribution, y, std in triples]
    return Outcome(scores, seconds, report.diverged)


def make_model(settings: dict[str, Any], inputs: int, generator: torch.Generator) -> BayesianModel:
    """A network of one hidden layer with 50 ReLU units, one target column."""
    with global_generator_from(generator):
        net = mlp(inputs, 1, HIDDEN, "relu")
    likelihood = make_likelihood(settings["likelihood"], **{"floor": FLOOR, **settings["likelihood_options"]})
    prior = make_prior(settings["prior"], **settings["prior_options"])
    return BayesianModel(StackedNetwork(net), likelihood, prior, 1)


@torch.no_grad()
def score(distribution: Distribution, y: Tensor, y_std: float, generator: torch.Generator) -> Score:
    """Score predictions of standardised targets y (M, 1), whose unit is ``y_std`` units of the data."""
    p = predictive_of(distribution, generator)
    samples = p.sample(SAMPLES)
    inside = (pit(samples, y) - 0.5).abs() <= 0.475
    mean, variance = p.mean, p.variance
    gaussian = 0.5 * ((y - mean).square() / variance + variance.log() + math.log(2 * math.pi))
    return Score(
        nll=float(-p.log_prob(y).mean()) + math.log(y_std),
        nll_gaussian=float(gaussian.mean()) + math.log(y_std),
        rmse=float((y - mean).square().mean().sqrt()) * y_std,
        crps=float(crps_samples(samples, y)) * y_std,
        coverage=float(inside.double().mean()),
    )
