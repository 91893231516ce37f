"""All scores of one predictive distribution in one frozen record that prints as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics.calibration import calibration_error, interval_coverage, pit
from dynapilco.inference.diagnostics.checks import mean_nll, require_floats, require_shape
from dynapilco.inference.diagnostics.classification import (
    accuracy,
    auroc,
    auroc_macro,
    brier,
    ece,
    nll_categorical,
)
from dynapilco.inference.diagnostics.protocols import (
    ClassificationPredictive,
    RegressionPredictive,
    class_probabilities,
)
from dynapilco.inference.diagnostics.regression import crps_samples, rmse, sharpness

Row = tuple[str, float | None, str]


def _table(title: str, rows: Sequence[Row]) -> str:
    """Lay out (name, value, explanation) in columns."""
    cells = [(name, "undefined" if value is None else f"{value:.4g}", note) for name, value, note in rows]
    left, right = (max(len(row[i]) for row in cells) for i in (0, 1))
    lines = [f"{name:<{left}}  {value:>{right}}  {note}".rstrip() for name, value, note in cells]
    return "\n".join([title, "-" * max(len(title), *map(len, lines)), *lines])


@dataclass(frozen=True)
class RegressionReport:
    """Scores of a regression predictive; nats are per example, the rest is averaged over examples and outputs."""

    examples: int
    samples: int
    """Predictive samples behind the CRPS and the PIT."""
    nll: float
    rmse: float
    crps: float
    coverage: tuple[tuple[float, float], ...]
    """(level, fraction of targets inside the central interval of that level) for each level asked for."""
    calibration_error: float
    sharpness: float
    """Root of the mean total variance."""
    epistemic: float
    """Root of the mean epistemic variance."""
    aleatoric: float
    """Root of the mean aleatoric variance."""

    def __str__(self) -> str:
        rows: list[Row] = [
            ("NLL", self.nll, "nats per example"),
            ("RMSE", self.rmse, "units of y"),
            ("CRPS", self.crps, f"units of y, from {self.samples} samples"),
            *((f"coverage of {level:.3g}", found, f"ideal {level:.3g}") for level, found in self.coverage),
            ("calibration error", self.calibration_error, "ideal 0 (Kuleshov et al. 2018)"),
            ("sharpness", self.sharpness, "units of y, total predictive sd"),
            ("epistemic sd", self.epistemic, "units of y"),
            ("aleatoric sd", self.aleatoric, "units of y"),
        ]
        return _table(f"regression, {self.examples} examples", rows)


@dataclass(frozen=True)
class ClassificationReport:
    """Scores of a classification predictive, averaged over examples."""

    examples: int
    classes: int
    nll: float
    accuracy: float
    brier: float
    ece: float
    """Expected calibration error, 15 bins of equal width."""
    ece_mass: float
    """Expected calibration error, 15 bins of equal mass."""
    auroc: float | None
    """Of class 1 for two classes, else the one-versus-rest mean; None where a class has no example."""
    epistemic: float
    """Mean mutual information, nats."""
    aleatoric: float
    """Mean expected entropy, nats."""

    def __str__(self) -> str:
        kind = "class 1 against 0" if self.classes == 2 else "mean of one versus rest"
        rows: list[Row] = [
            ("NLL", self.nll, "nats per example"),
            ("accuracy", self.accuracy, ""),
            ("Brier", self.brier, "0 to 2, summed over classes"),
            ("ECE", self.ece, "15 bins of equal width"),
            ("ECE, equal mass", self.ece_mass, "15 bins of equal mass"),
            ("AUROC", self.auroc, kind if self.auroc is not None else "a class has no example"),
            ("epistemic", self.epistemic, "nats, mutual information"),
            ("aleatoric", self.aleatoric, "nats, expected entropy"),
        ]
        return _table(f"classification, {self.examples} examples, {self.classes} classes", rows)


def _require_levels(levels: Sequence[float]) -> None:
    if not levels or not all(0 < level < 1 for level in levels):
        raise UserError(f"levels is {tuple(levels)}: expected numbers between 0 and 1")


@torch.no_grad()
def regression_report(
    predictive: RegressionPredictive,
    y: Tensor,
    generator: torch.Generator,
    levels: Sequence[float] = (0.5, 0.9, 0.95),
    samples: int = 512,
) -> RegressionReport:
    """Score a regression predictive on targets.

    Parameters
    ----------
    predictive : RegressionPredictive
        For the B inputs of ``y``.
    y : Tensor, shape (B, out)
    generator : torch.Generator
        For the predictive samples and the randomised PIT.
    levels : sequence of float
        Levels of the central intervals whose coverage is counted, by ``predictive.quantile``.
    samples : int
        Predictive samples for the CRPS (fair estimator) and the calibration error; at least 2.

    Raises
    ------
    UserError
        Levels outside (0, 1), fewer than 2 samples, shapes that do not agree, or values that are not finite.
    """
    _require_levels(levels)
    if samples < 2:
        raise UserError(f"samples is {samples}: expected at least 2")
    require_floats(y=y)
    mean, epistemic, aleatoric = predictive.mean, predictive.epistemic, predictive.aleatoric
    for name, tensor in (("mean", mean), ("epistemic", epistemic), ("aleatoric", aleatoric)):
        require_shape(f"predictive.{name}", tensor, y.shape, "y")
        require_floats(**{f"predictive.{name}": tensor})
    bounds = [(predictive.quantile((1 - level) / 2), predictive.quantile((1 + level) / 2)) for level in levels]
    drawn = predictive.sample(samples, generator)
    return RegressionReport(
        examples=len(y),
        samples=samples,
        nll=float(mean_nll(predictive.log_prob(y), len(y))),
        rmse=float(rmse(mean, y)),
        crps=float(crps_samples(drawn, y)),
        coverage=tuple((p, float(interval_coverage(*b, y))) for p, b in zip(levels, bounds, strict=True)),
        calibration_error=float(calibration_error(pit(drawn, y, generator))),
        sharpness=float(sharpness(epistemic + aleatoric)),
        epistemic=float(sharpness(epistemic)),
        aleatoric=float(sharpness(aleatoric)),
    )


@torch.no_grad()
def classification_report(predictive: ClassificationPredictive, labels: Tensor) -> ClassificationReport:
    """Score a classification predictive on labels.

    Parameters
    ----------
    predictive : ClassificationPredictive
        For the B inputs of ``labels``.
    labels : Tensor, shape (B,), integers in [0, C)

    Raises
    ------
    UserError
        Labels out of range, rows of probabilities that do not sum to one, shapes that do not agree.
    """
    probabilities = class_probabilities(predictive)
    nll = float(nll_categorical(probabilities, labels))
    return ClassificationReport(
        examples=len(labels),
        classes=probabilities.shape[1],
        nll=nll,
        accuracy=float(accuracy(probabilities, labels)),
        brier=float(brier(probabilities, labels)),
        ece=float(ece(probabilities, labels)),
        ece_mass=float(ece(probabilities, labels, kind="mass")),
        auroc=_auroc_if_defined(probabilities, labels),
        epistemic=float(predictive.epistemic.mean()),
        aleatoric=float(predictive.aleatoric.mean()),
    )


def _auroc_if_defined(probabilities: Tensor, labels: Tensor) -> float | None:
    """AUROC, or None where a class has no example and there is no such area."""
    classes = probabilities.shape[1]
    if len(labels.unique()) < classes:
        return None
    return float(auroc(probabilities[:, 1], labels) if classes == 2 else auroc_macro(probabilities, labels))
