"""The probability of improvement: how often a run of one method beats a run of another on the same task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from dynapilco.compare.stats.aggregate import Strata
from dynapilco.compare.stats.bootstrap import LEVEL, RESAMPLES, central
from dynapilco.compare.stats.intervals import IntervalKind

PERMUTATIONS = 9_999
BISECTIONS = 60


def wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Who beats whom: (..., n_x, n_y) of 1 where x is larger, 1/2 where equal, 0 elsewhere."""
    difference = x[..., :, None] - y[..., None, :]
    return (difference > 0) + 0.5 * (difference == 0)


def probability_of_improvement(x: Strata, y: Strata) -> np.ndarray:
    """P(X > Y) + P(X = Y) / 2 within each task, averaged over tasks (Agarwal et al. 2021).

    Mann-Whitney's U over n_x n_y.

    Strata (..., n_x), (..., n_y) a task; returns (...).
    """
    return np.mean([wins(a, b).mean(axis=(-1, -2)) for a, b in zip(x, y, strict=True)], axis=0)


def improvement_interval(
    x: Strata, y: Strata, rng: np.random.Generator, kind: IntervalKind = "calibrated", resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, lower and upper bound; the bounds are NaN where a method has one seed on a task."""
    estimate = probability_of_improvement(x, y)
    sizes = [(a.shape[-1], b.shape[-1]) for a, b in zip(x, y, strict=True)]
    if min(min(pair) for pair in sizes) < 2:
        return estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    low, high = _percentile(x, y, rng, resamples) if kind == "percentile" else score_interval(estimate, sizes)
    return estimate, low, high


def score_interval(estimate: np.ndarray, sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Newcombe's score interval: all theta with |estimate - theta| <= 1.96 sqrt(V(theta)), by bisection.

    V(theta) = theta (1 - theta) / (m n) [1 + (N - 1) ((1 - theta) / (2 - theta) + theta / (1 + theta))],
    N = (m + n) / 2 (Newcombe 2006, Statistics in Medicine 25:559, method 5, after Hanley and McNeil 1982).
    Several tasks: the mean of their V over the number of tasks, as if all had the same theta; where they differ, that
    is wider than needed.
    Unlike the bootstrap it keeps a width where one method beats the other in all pairs.
    """
    z2, tasks = stats.norm.ppf((1 + LEVEL) / 2) ** 2, len(sizes)

    def outside(theta: np.ndarray) -> np.ndarray:
        spread = (1 - theta) / (2 - theta) + theta / (1 + theta)
        variance = sum(theta * (1 - theta) * (1 + ((m + n) / 2 - 1) * spread) / (m * n) for m, n in sizes) / tasks**2
        return (estimate - theta) ** 2 > z2 * variance

    estimate = np.asarray(estimate, dtype=float)
    return _boundary(outside, np.zeros_like(estimate), estimate), _boundary(outside, np.ones_like(estimate), estimate)


def _boundary(outside, far: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Where ``outside`` changes between ``far`` (outside, or the end of the scale) and ``near`` (inside)."""
    for _ in range(BISECTIONS):
        middle = (far + near) / 2
        is_out = outside(middle)
        far, near = np.where(is_out, middle, far), np.where(is_out, near, middle)
    return far


def _percentile(x: Strata, y: Strata, rng: np.random.Generator, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """A resample of seeds is a count for each seed: its probability is counts_x' wins counts_y / (n_x n_y)."""
    total = 0.0
    for a, b in zip(x, y, strict=True):
        m, n = a.shape[-1], b.shape[-1]
        times_a = rng.multinomial(m, np.full(m, 1 / m), size=(*a.shape[:-1], resamples))
        times_b = rng.multinomial(n, np.full(n, 1 / n), size=(*b.shape[:-1], resamples))
        total = total + ((times_a @ wins(a, b)) * times_b).sum(axis=-1) / (m * n)
    return central(np.moveaxis(np.asarray(total) / len(x), -1, 0), (1 - LEVEL) / 2)


def permutation_test(x: Strata, y: Strata, rng: np.random.Generator, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p value of "both methods' scores have one distribution on every task"; strata (n_x,), (n_y,).

    The labels are permuted within each task, the statistic is the probability of improvement; valid at every number of
    seeds and with ties. It is (1 + as extreme permutations) / (1 + permutations), never 0.
    """
    observed, null = 0.0, np.zeros(permutations)
    for a, b in zip(x, y, strict=True):
        ranks, m, n = stats.rankdata(np.concatenate([a, b])), len(a), len(b)
        chosen = np.argsort(rng.random((permutations, m + n)), axis=1)[:, :m]
        observed += (ranks[:m].sum() - m * (m + n + 1) / 2) / (m * n)
        null += (ranks[chosen].sum(axis=1) - m * (m + n + 1) / 2) / (m * n)
    extreme = np.abs(null) >= abs(observed) - 1e-9
    return float((1 + extreme.sum()) / (1 + permutations))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """P values corrected for their number by Holm's step-down method (1979); NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=float)
    corrected = np.full_like(p, np.nan)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]  # NaN sort last
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected
