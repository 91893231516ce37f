"""Intervals of the IQM that were tried and not chosen; strata (repetitions, seeds) a task, bounds (repetitions,)."""

from __future__ import annotations

import numpy as np
from scipy import stats

from dynapilco.compare.stats.aggregate import Strata, iqm, trimmed
from dynapilco.compare.stats.bootstrap import central, resample

Bounds = tuple[np.ndarray, np.ndarray]


def winsorised(strata: Strata) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of the IQM from the winsorised variances of the tasks, and its degrees of freedom.

    Tukey and McLaughlin 1963: s_w / ((1 - 2g/n) sqrt(n)), h - 1 degrees of freedom, h kept. Several tasks: limits
    of the pooled scores, variances of the tasks kept apart (the influence function of the pooled trimmed mean), degrees
    of freedom after Welch and Satterthwaite, times the share of scores kept.
    """
    pooled = np.sort(np.concatenate(list(strata), axis=-1), axis=-1)
    count = pooled.shape[-1]
    cut = trimmed(count)
    kept = (count - 2 * cut) / count
    low, high = pooled[..., cut, None], pooled[..., count - cut - 1, None]
    variances = np.stack([np.clip(s, low, high).var(axis=-1, ddof=1) / s.shape[-1] for s in strata], axis=-1)
    total = variances.sum(axis=-1)
    freedom = np.array([s.shape[-1] - 1 for s in strata])
    squares = (variances**2 / freedom).sum(axis=-1)
    degrees = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0) * kept
    if len(strata) == 1:
        degrees = np.full_like(total, count - 2 * cut - 1)
    return np.sqrt(total) / len(strata) / kept, np.maximum(degrees, 1.0)


def tukey_mclaughlin(strata: Strata, rng: np.random.Generator, resamples: int) -> Bounds:
    """The trimmed-mean t interval; Yuen's for several tasks."""
    del rng, resamples
    error, degrees = winsorised(strata)
    half, centre = stats.t.ppf(0.975, degrees) * error, iqm(strata)
    return centre - half, centre + half


def bootstrap_t(strata: Strata, rng: np.random.Generator, resamples: int) -> Bounds:
    """Studentised bootstrap with the winsorised standard error."""
    drawn, centre = resample(strata, rng, resamples), iqm(strata)
    error, _ = winsorised(strata)
    errors, _ = winsorised(drawn)
    away = iqm(drawn) - centre
    # a resample of equal scores has no error of its own: t is then infinite, or 0 at the centre itself
    t = np.where(away == 0, 0.0, np.copysign(np.inf, away))
    np.divide(away, errors, out=t, where=errors > 0)
    low, high = np.quantile(t, [0.025, 0.975], axis=0, method="inverted_cdf")
    with np.errstate(invalid="ignore"):
        return centre - np.where(error > 0, high * error, 0.0), centre - np.where(error > 0, low * error, 0.0)


def bca(strata: Strata, rng: np.random.Generator, resamples: int) -> Bounds:
    """Bias-corrected and accelerated bootstrap (Efron 1987), acceleration from the jackknife within tasks."""
    centre = iqm(strata)
    values = np.sort(iqm(resample(strata, rng, resamples)), axis=0)
    below = (values < centre).mean(axis=0) + 0.5 * (values == centre).mean(axis=0)
    bias = stats.norm.ppf(np.clip(below, 1 / resamples, 1 - 1 / resamples))
    cubes, squares = np.zeros_like(centre), np.zeros_like(centre)
    for t, stratum in enumerate(strata):
        left_out = np.stack(
            [iqm([*strata[:t], np.delete(stratum, i, axis=-1), *strata[t + 1 :]]) for i in range(stratum.shape[-1])]
        )
        away = left_out.mean(axis=0) - left_out
        cubes, squares = cubes + (away**3).sum(axis=0), squares + (away**2).sum(axis=0)
    acceleration = np.divide(cubes, 6 * squares**1.5, out=np.zeros_like(centre), where=squares > 0)
    z = bias + stats.norm.ppf([[0.025], [0.975]])
    places = stats.norm.cdf(bias + z / (1 - acceleration * z))
    rows = np.clip(np.round(places * (resamples - 1)), 0, resamples - 1).astype(int)
    low, high = np.take_along_axis(values, rows, axis=0)
    return low, high


def expanded_with_factor(strata: Strata, rng: np.random.Generator, resamples: int) -> Bounds:
    """Hesterberg's expanded percentile interval as he gives it: tail Phi(-sqrt(n / (n - 1)) t), n seeds a task."""
    n = min(s.shape[-1] for s in strata)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    return central(iqm(resample(strata, rng, resamples)), float(tail))


CANDIDATES = {
    "Tukey-McLaughlin t": tukey_mclaughlin,
    "bootstrap-t": bootstrap_t,
    "BCa": bca,
    "expanded percentile": expanded_with_factor,
}
