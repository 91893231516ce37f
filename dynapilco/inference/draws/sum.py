"""Sums of two draws: f + beta * g, function by function."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dynapilco.inference.draws.base import Draw
from dynapilco.inference.draws.dense import DenseDraw
from dynapilco.inference.draws.wrapped import WrappedDraw


@dataclass(frozen=True, kw_only=True)
class SumDraw(WrappedDraw):
    """f + beta * g; the noise is f's.

    Attributes
    ----------
    first, second : Draw
        f and g, of the same size.
    beta : float
    """

    first: Draw
    second: Draw
    beta: float

    def evaluate(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.first.each(x) + self.beta * self.second.each(x)


def add_draws(first: Draw, second: Draw, beta: float) -> Draw:
    """The draw f + beta * g with the noise of f: again a dense stack where both are."""
    if isinstance(first, DenseDraw) and isinstance(second, DenseDraw):
        return DenseDraw(first.size, first.noise, first.likelihood, first.stack.plus(second.stack, beta))
    return SumDraw(first.size, first.noise, first.likelihood, first=first, second=second, beta=beta)
