"""Draws that are not explicit stacks: affine maps and projections stay around the function."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from dynapilco.inference.draws.base import Affine, Draw, compose
from dynapilco.inference.network import StackedNetwork


@dataclass(frozen=True, kw_only=True)
class WrappedDraw(Draw):
    """A draw that keeps affine maps around its functions.

    Attributes
    ----------
    before, after : tuple of Tensor, optional
        Affine maps (scale, shift) of inputs and outputs.
    projection : Tensor, optional
        Matrix applied to the inputs before everything else.
    """

    before: Affine | None = None
    after: Affine | None = None
    projection: Tensor | None = None

    @abstractmethod
    def evaluate(self, x: Tensor) -> Tensor:
        """The functions themselves: x (S, P, *in) -> (S, P, *out)."""

    def each(self, x: Tensor) -> Tensor:  # noqa: D102
        self._check_each(x)
        x = x if self.projection is None else x @ self.projection
        x = x if self.before is None else x * self.before[0] + self.before[1]
        y = self.evaluate(x)
        return y if self.after is None else y * self.after[0] + self.after[1]

    def fold(self, inputs: Affine | None = None, outputs: Affine | None = None) -> Self:  # noqa: D102
        projection, noise = self.projection, self.noise
        if inputs is not None and projection is not None:  # (a z + b) @ M = z @ (a M) + b @ M
            (scale, shift), one = inputs, projection.new_ones(projection.shape[1])
            inputs, projection = (one, shift @ projection), scale.unsqueeze(-1) * projection
        if outputs is not None:
            noise, *outputs_of_f = self.likelihood.fold(noise, *outputs)
            outputs = (outputs_of_f[0], outputs_of_f[1])
        return replace(
            self,
            projection=projection,
            before=compose(self.before, inputs, outer_first=False),
            after=compose(self.after, outputs, outer_first=True),
            noise=noise,
        )

    def project(self, matrix: Tensor) -> Self:  # noqa: D102
        return replace(self, projection=matrix if self.projection is None else matrix @ self.projection)


@dataclass(frozen=True, kw_only=True)
class ModuleDraw(WrappedDraw):
    """A draw of an arbitrary module: S full parameter vectors under ``vmap`` or in a loop.

    Attributes
    ----------
    network : StackedNetwork
    params : Tensor
        (S, n_full).
    """

    network: StackedNetwork
    params: Tensor

    def evaluate(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.network.each(self.params, x)
