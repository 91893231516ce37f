"""Draws of plain multilayer perceptrons: stacked weights, or masks over shared weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from dynapilco.inference.draws.base import Affine, Draw
from dynapilco.inference.stack import DenseStack


@dataclass(frozen=True)
class DenseDraw(Draw):
    """A draw whose functions are multilayer perceptrons: stacked weights, or masks over shared weights.

    Attributes
    ----------
    stack : DenseStack
        G = S weight sets; or G = 1 with masks of S rows.
    """

    stack: DenseStack

    def each(self, x: Tensor) -> Tensor:  # noqa: D102
        self._check_each(x)
        if x.dim() > 3:  # Linear layers act on the last axis
            return self.each(x.flatten(1, -2)).unflatten(1, x.shape[1:-1])
        if self.stack.groups == self.size and not self._masked:
            return self.stack(x)
        rows = x.reshape(1, -1, x.shape[-1])
        stack = self.dense(x.shape[1])
        return stack(rows).reshape(*x.shape[:-1], -1)

    def fold(self, inputs: Affine | None = None, outputs: Affine | None = None) -> DenseDraw:  # noqa: D102
        stack = self.stack if inputs is None else self.stack.fold_input(*inputs)
        if outputs is None:
            return replace(self, stack=stack)
        noise, scale, shift = self.likelihood.fold(self.noise, *outputs)
        return replace(self, stack=stack.fold_output(scale, shift), noise=noise)

    def project(self, matrix: Tensor) -> DenseDraw:  # noqa: D102
        return replace(self, stack=self.stack.project_input(matrix))

    def dense(self, particles: int) -> DenseStack:  # noqa: D102
        if not self._masked:
            return self.stack
        masks = tuple(None if m is None else m.repeat_interleave(particles, 0) for m in self.stack.masks)
        return replace(self.stack, masks=masks)

    @property
    def _masked(self) -> bool:
        return any(mask is not None for mask in self.stack.masks)
