"""Point aggregates of scores over seeds and tasks, as Agarwal et al. 2021 (arXiv 2108.13264) define them.

Scores are *strata*: one array for each task, of shape (..., seeds of the task). Leading axes are independent data sets
(bootstrap resamples, simulated experiments); every function reduces the last axis and returns an array of shape (...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Strata = Sequence[np.ndarray]
Functional = Callable[[Strata], np.ndarray]

TRIM = 0.25
"""Share of the scores that the IQM leaves out on either side."""


def task_means(strata: Strata) -> np.ndarray:
    """Mean over seeds of each task, shape (..., tasks)."""
    return np.stack([np.mean(stratum, axis=-1) for stratum in strata], axis=-1)


def trimmed(count: int) -> int:
    """How many of ``count`` sorted scores the IQM leaves out on either side: floor(count / 4), as scipy's trim_mean."""
    return int(TRIM * count)


def iqm(strata: Strata) -> np.ndarray:
    """Interquartile mean: the mean of the middle half of all scores, seeds and tasks pooled (25 % trimmed mean).

    With 10 scores scipy and rliable cut 2 on either side, not 2.5: so does this.
    """
    pooled = np.sort(np.concatenate(list(strata), axis=-1), axis=-1)
    cut = trimmed(pooled.shape[-1])
    return pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1)


def mean(strata: Strata) -> np.ndarray:
    """Mean over tasks of the means over seeds."""
    return task_means(strata).mean(axis=-1)


def median(strata: Strata) -> np.ndarray:
    """Median over *tasks* of the means over seeds: with one task it is the mean, by definition."""
    return np.median(task_means(strata), axis=-1)


def optimality_gap(strata: Strata, target: float = 1.0) -> np.ndarray:
    """How far the scores fall short of ``target``: target - mean(min(score, target)); lower is better."""
    return target - mean([np.minimum(stratum, target) for stratum in strata])


AGGREGATES: dict[str, Functional] = {"iqm": iqm, "mean": mean, "median": median, "optimality_gap": optimality_gap}
