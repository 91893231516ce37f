"""Simulated scores whose true aggregates are known: five families, one task or several of other places and scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import integrate, optimize, stats

PLACES = (0.0, 0.3, 0.6, 1.0, 2.0)
SCALES = (1.0, 0.5, 1.5, 1.0, 2.0)
"""Place and scale of each task: no two tasks alike."""


@dataclass(frozen=True)
class Mixture:
    """A mixture of scipy distributions, moved and stretched: place + scale * x."""

    parts: tuple[tuple[float, object], ...]
    place: float = 0.0
    scale: float = 1.0

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Independent scores."""
        which = rng.choice(len(self.parts), p=[weight for weight, _ in self.parts], size=shape)
        draws = np.stack([part.rvs(size=shape, random_state=rng) for _, part in self.parts])
        return self.place + self.scale * np.take_along_axis(draws, which[None], axis=0)[0]

    def cdf(self, x: float | np.ndarray) -> float | np.ndarray:
        """P(score <= x)."""
        return sum(weight * part.cdf((x - self.place) / self.scale) for weight, part in self.parts)

    def mean(self) -> float:
        """True mean."""
        return self.place + self.scale * sum(weight * part.mean() for weight, part in self.parts)

    def partial_mean(self, low: float, high: float) -> float:
        """Integral of x over the scores between two bounds, by quadrature over each part's own probabilities."""
        total = 0.0
        for weight, part in self.parts:
            a, b = part.cdf((low - self.place) / self.scale), part.cdf((high - self.place) / self.scale)
            area, _ = integrate.quad(part.ppf, a, b, limit=400)
            total += weight * (self.place * (b - a) + self.scale * area)
        return total


FAMILIES: dict[str, tuple[tuple[float, object], ...]] = {
    "normal": ((1.0, stats.norm()),),
    "beta": ((1.0, stats.beta(2, 5)),),
    "u-shaped beta": ((1.0, stats.beta(0.5, 0.5)),),
    "bimodal": ((0.6, stats.norm(0.9, 0.05)), (0.4, stats.norm(0.2, 0.1))),
    "student t3": ((1.0, stats.t(3)),),
    "lognormal": ((1.0, stats.lognorm(1.0)),),
}


def tasks_of(family: str, tasks: int, shift: float = 0.0) -> list[Mixture]:
    """The tasks of one family; ``shift`` in units of each task's scale."""
    return [Mixture(FAMILIES[family], PLACES[t] + shift * SCALES[t] * spread(family), SCALES[t]) for t in range(tasks)]


def spread(family: str) -> float:
    """A robust width of the family: its interquartile range over that of the standard normal."""
    mixture = Mixture(FAMILIES[family])
    return float((quantile([mixture], 0.75) - quantile([mixture], 0.25)) / 1.349)


def quantile(tasks: list[Mixture], share: float) -> float:
    """Quantile of all tasks' scores pooled."""
    return float(optimize.brentq(lambda x: np.mean([task.cdf(x) for task in tasks]) - share, -1e4, 1e4, xtol=1e-13))


def true_iqm(tasks: list[Mixture]) -> float:
    """The mean of the middle half of all tasks' scores pooled."""
    low, high = quantile(tasks, 0.25), quantile(tasks, 0.75)
    return 2 * float(np.mean([task.partial_mean(low, high) for task in tasks]))


def true_mean(tasks: list[Mixture]) -> float:
    """The mean over tasks."""
    return float(np.mean([task.mean() for task in tasks]))


def true_median(tasks: list[Mixture]) -> float:
    """The median over tasks of the tasks' means."""
    return float(np.median([task.mean() for task in tasks]))


def true_improvement(x: list[Mixture], y: list[Mixture]) -> float:
    """P(X > Y) on each task, averaged; the distributions are continuous, so ties have no weight."""
    shares = []
    for a, b in zip(x, y, strict=True):
        for weight, part in a.parts:
            value, _ = integrate.quad(lambda u, p=part, a=a, b=b: b.cdf(a.place + a.scale * p.ppf(u)), 0, 1, limit=400)
            shares.append(weight * value)
    return float(np.sum(shares) / len(x))
