"""How scores and uncertainties change when the inputs are corrupted.

Useful uncertainty rises with the error. Each corruption draws its randomness once and is then scaled by the severity
(common random numbers), so that the rows of one kind differ by severity only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.inference.diagnostics.checks import mean_nll, require_floats
from dynapilco.inference.diagnostics.classification import accuracy, nll_categorical
from dynapilco.inference.diagnostics.protocols import (
    ClassificationPredictive,
    RegressionPredictive,
    class_probabilities,
)
from dynapilco.inference.diagnostics.regression import rmse

Predictive = RegressionPredictive | ClassificationPredictive
Corruption = Callable[[float], Tensor]


@dataclass(frozen=True)
class RobustnessRow:
    """Scores under one kind and severity of corruption; see :func:`robustness` for the kinds."""

    kind: str
    severity: float
    task: str
    """ "regression" or "classification"."""
    nll: float
    """Nats per example."""
    error: float
    """RMSE in the units of y, or the fraction of wrong labels."""
    epistemic: float
    """Regression: root mean epistemic variance, in the units of y. Classification: mean mutual information, nats."""
    aleatoric: float
    """Regression: root mean aleatoric variance, in the units of y. Classification: mean expected entropy, nats."""


def _uniform(shape: Sequence[int], x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)


def _gaussian(x: Tensor, generator: torch.Generator) -> Corruption:
    noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
    noise = noise * x.std(0, correction=0)
    return lambda severity: x + severity * noise


def _dropout(x: Tensor, generator: torch.Generator) -> Corruption:
    uniform, mean = _uniform(x.shape, x, generator), x.mean(0).expand_as(x)
    return lambda severity: torch.where(uniform < severity, mean, x)


def _shift(x: Tensor, generator: torch.Generator) -> Corruption:
    sign = torch.where(_uniform(x.shape[1:], x, generator) < 0.5, -1.0, 1.0).to(x.dtype)
    offset = sign * x.std(0, correction=0)
    return lambda severity: x + severity * offset


def _scale(x: Tensor, generator: torch.Generator) -> Corruption:
    mean = x.mean(0)
    return lambda severity: mean + (1 + severity) * (x - mean)


CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Corruption]] = {
    "gaussian": _gaussian,
    "dropout": _dropout,
    "shift": _shift,
    "scale": _scale,
}
"""Kinds of corruption by name; each takes the clean inputs and a generator and returns a function of the severity."""


def _root_mean(variance: Tensor) -> float:
    return float(variance.mean().sqrt())


def _row(kind: str, severity: float, predictive: Predictive, y: Tensor) -> RobustnessRow:
    if hasattr(predictive, "probabilities"):
        predictive = cast(ClassificationPredictive, predictive)
        probabilities = class_probabilities(predictive)
        nll, error = nll_categorical(probabilities, y), 1 - accuracy(probabilities, y)
        spread = (float(predictive.epistemic.mean()), float(predictive.aleatoric.mean()))
        return RobustnessRow(kind, severity, "classification", float(nll), float(error), *spread)
    predictive = cast(RegressionPredictive, predictive)
    nll, error = mean_nll(predictive.log_prob(y), len(y)), rmse(predictive.mean, y)
    spread = (_root_mean(predictive.epistemic), _root_mean(predictive.aleatoric))
    return RobustnessRow(kind, severity, "regression", float(nll), float(error), *spread)


def _check(x: Tensor, y: Tensor, severities: Sequence[float], kinds: Sequence[str]) -> None:
    require_floats(x=x)
    if x.ndim < 2 or y.shape[:1] != x.shape[:1]:
        raise UserError(f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}: expected (B, *in) and (B, ...)")
    if isinstance(kinds, str):
        raise UserError(f"kinds is {kinds!r}: expected a sequence of names, e.g. ({kinds!r},)")
    if not kinds or not len(severities):
        raise UserError(f"kinds is {tuple(kinds)} and severities {tuple(severities)}: expected at least one of each")
    for kind in kinds:
        if kind not in CORRUPTIONS:
            raise unknown_name("corruption", kind, CORRUPTIONS)
    for severity in severities:
        if not 0 <= severity < float("inf"):
            raise UserError(f"severities has {severity}: expected finite numbers of at least 0")
        if "dropout" in kinds and severity > 1:
            raise UserError(f"severities has {severity}: for kind 'dropout' it is a probability, at most 1")


def robustness(
    predict: Callable[[Tensor], Predictive],
    x: Tensor,
    y: Tensor,
    severities: Sequence[float],
    generator: torch.Generator,
    kinds: Sequence[str] = ("gaussian", "dropout", "shift"),
) -> list[RobustnessRow]:
    """Score a model on corrupted inputs; severity 0 is the clean input.

    Kinds, with sd and mean the features' own over ``x``: "gaussian" adds N(0, (severity sd)^2); "dropout" replaces
    each entry by its feature's mean with probability severity; "shift" moves each feature by severity sd, all examples
    in the same random direction; "scale" stretches deviations from the mean by 1 + severity.

    Parameters
    ----------
    predict : callable
        Inputs (B, *in) -> a predictive with ``mean``, ``epistemic``, ``aleatoric`` and ``log_prob(y)`` (regression)
        or ``probabilities``, ``epistemic``, ``aleatoric`` (classification). Give one with fixed draws, else their
        noise is part of the differences.
    x : Tensor, shape (B, *in), floating point
    y : Tensor, shape (B, out), or (B,) class labels
    severities : sequence of float, each at least 0
    generator : torch.Generator
    kinds : sequence of str

    Returns
    -------
    list of RobustnessRow
        Kinds in the order given, within each the severities in the order given.

    Raises
    ------
    UserError
        Unknown kinds, severities out of range, inputs that are not finite.
    """
    _check(x, y, severities, kinds)
    rows = []
    with torch.no_grad():
        for kind in kinds:
            corrupt = CORRUPTIONS[kind](x, generator)
            rows += [_row(kind, float(severity), predict(corrupt(severity)), y) for severity in severities]
    return rows
