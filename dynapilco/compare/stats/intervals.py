"""The 95 % interval that is printed beside each aggregate, chosen by simulation (docs/results/interval-coverage.md)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy import stats

from dynapilco.compare.stats import aggregate
from dynapilco.compare.stats.aggregate import Strata
from dynapilco.compare.stats.bootstrap import LEVEL, RESAMPLES, central, expanded_interval, percentile_interval
from dynapilco.core.errors import unknown_name

IntervalKind = Literal["calibrated", "percentile"]
"""``calibrated``: for each statistic the interval that covered best; ``percentile``: rliable's bootstrap throughout."""

CALIBRATED = {
    "iqm": "t-expanded percentile bootstrap",
    "mean": "Welch-Satterthwaite t",
    "optimality_gap": "Welch-Satterthwaite t",
    "median": "generalised pivotal",
    "probability_of_improvement": "Newcombe score",
    "rate": "Wilson score",
}


def check_kind(kind: str) -> None:
    """Raise ``UserError`` for an unknown kind of interval."""
    if kind not in get_args(IntervalKind):
        raise unknown_name("interval", kind, get_args(IntervalKind))


def interval_name(statistic: str, kind: IntervalKind) -> str:
    """The words for the method behind an interval."""
    return "percentile bootstrap" if kind == "percentile" else CALIBRATED[statistic]


def aggregate_interval(
    strata: Strata,
    statistic: str,
    rng: np.random.Generator,
    kind: IntervalKind = "calibrated",
    resamples: int = RESAMPLES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, lower and upper bound of one aggregate, each of shape (...) for strata (..., seeds).

    Bounds are NaN where a task has one seed: an interval cannot be given.
    """
    functional = aggregate.AGGREGATES[statistic]
    estimate = functional(strata)
    if min(stratum.shape[-1] for stratum in strata) < 2:
        return estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    if kind == "percentile":
        low, high = percentile_interval(strata, functional, rng, resamples)
    elif statistic == "iqm" and aggregate.trimmed(sum(stratum.shape[-1] for stratum in strata)):
        low, high = expanded_interval(strata, functional, rng, resamples)
    elif statistic == "median":
        low, high = pivotal_median(strata, rng, resamples)
    elif statistic == "optimality_gap":
        low, high = welch([np.minimum(stratum, 1.0) for stratum in strata])
        low, high = 1.0 - high, 1.0 - low
    else:  # the mean, and the IQM of fewer than four scores, which is the mean
        low, high = welch(strata)
    return estimate, low, high


def welch(strata: Strata) -> tuple[np.ndarray, np.ndarray]:
    """Student's t interval of the mean over tasks of the task means, the variances of the tasks kept apart.

    se^2 = sum_t s_t^2 / n_t / T^2, with the degrees of freedom of Welch 1947 and Satterthwaite 1946:
    (sum_t v_t)^2 / sum_t v_t^2 / (n_t - 1), v_t = s_t^2 / n_t.
    """
    variances = _variances_of_means(strata)
    freedom = np.array([stratum.shape[-1] - 1 for stratum in strata])
    total = variances.sum(axis=-1)
    squares = (variances**2 / freedom).sum(axis=-1)
    degrees = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)
    half = stats.t.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(total) / len(strata)
    centre = aggregate.mean(strata)
    return centre - half, centre + half


def pivotal_median(strata: Strata, rng: np.random.Generator, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Generalised confidence interval (Weerahandi 1993) of the median over tasks of the task means.

    Each task's mean is drawn from its own t pivot, mean_t + s_t / sqrt(n_t) t(n_t - 1); the bounds are quantiles of the
    medians of such draws. With one task it is Student's t interval, computed as such.
    """
    if len(strata) == 1:
        return welch(strata)
    means, scales = aggregate.task_means(strata), np.sqrt(_variances_of_means(strata))
    freedom = np.array([stratum.shape[-1] - 1 for stratum in strata])
    draw = means + scales * rng.standard_t(freedom, size=(draws, *means.shape))
    return central(np.median(draw, axis=-1), (1 - LEVEL) / 2)


def _variances_of_means(strata: Strata) -> np.ndarray:
    return np.stack([stratum.var(axis=-1, ddof=1) / stratum.shape[-1] for stratum in strata], axis=-1)
