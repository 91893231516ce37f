"""Intervals of shares: success rates and performance profiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from dynapilco.compare.stats.bootstrap import LEVEL


def wilson(rate: np.ndarray, count: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval (1927) of a share ``rate`` of ``count`` cases, elementwise.

    centre and half width of  (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    """
    rate, count, z = np.asarray(rate, dtype=float), np.asarray(count, dtype=float), stats.norm.ppf((1 + LEVEL) / 2)
    scale = 1 + z**2 / count
    centre = (rate + z**2 / (2 * count)) / scale
    half = z * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2)) / scale
    # a share of 0 or 1 has its bound exactly there; rounding would leave 1e-17
    low = np.where(rate == 0, 0.0, np.clip(centre - half, 0.0, 1.0))
    return low, np.where(rate == 1, 1.0, np.clip(centre + half, 0.0, 1.0))


def effective_count(seeds: Sequence[int]) -> float:
    """The number of independent cases as good as a mean of task shares: T^2 / sum_t 1/n_t, T n where all n_t are n.

    It takes all tasks to have the same rate, which is the largest variance that the same mean can have: where tasks
    differ, the interval is wider than needed (covers more than 95 %).
    """
    return len(seeds) ** 2 / sum(1 / n for n in seeds)
