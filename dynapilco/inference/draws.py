"""The narrow waist: a draw is a batch of S fixed functions, each with its own noise.

Every method ends in a :class:`Draw`; nothing above this file knows which method made it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods import Gaussian
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.stack import DenseStack


@dataclass(frozen=True)
class Draw(ABC):
    """S fixed functions.

    Attributes
    ----------
    size : int
        S.
    scale : Tensor
        Noise standard deviation of each function, (S, out).
    likelihood : Gaussian
    """

    size: int
    scale: Tensor
    likelihood: Gaussian

    @abstractmethod
    def each(self, x: Tensor) -> Tensor:
        """Evaluate function s on its own batch: x (S, P, *in) -> (S, P, *out)."""

    @abstractmethod
    def fold(self, inputs: tuple[Tensor, Tensor] | None = None, outputs: tuple[Tensor, Tensor] | None = None) -> Draw:
        """Absorb affine maps: new f(z) = c * f(a * z + b) + d for inputs=(a, b), outputs=(c, d).

        The noise scale is multiplied by ``|c|``.
        """

    @abstractmethod
    def project(self, matrix: Tensor) -> Draw:
        """The same functions of z where the old input is ``z @ matrix`` (matrix (in_new, in))."""

    def dense(self, particles: int) -> DenseStack | None:
        """The draw as explicit dense layers for ``particles`` per function, or None where it is not one."""
        return None

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate all functions on one batch: x (B, *in) -> (S, B, *out)."""
        return self.each(x.expand(self.size, *x.shape))

    def predictive(self, x: Tensor) -> Distribution:
        """Each function's distribution over targets: x (B, *in) -> batch shape (S, B, out)."""
        return self.likelihood.distribution(self.scale, self(x))

    def _folded_scale(self, outputs: tuple[Tensor, Tensor] | None) -> Tensor:
        return self.scale if outputs is None else self.scale * outputs[0].abs()


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
        if x.shape[0] != self.size:
            raise UserError(f"each: x has {x.shape[0]} batches, the draw has {self.size} functions")
        if self.stack.groups == self.size and not self._masked:
            return self.stack(x)
        rows = x.reshape(1, -1, x.shape[-1])
        stack = self.dense(x.shape[1])
        return stack(rows).reshape(*x.shape[:-1], -1)

    def fold(  # noqa: D102
        self, inputs: tuple[Tensor, Tensor] | None = None, outputs: tuple[Tensor, Tensor] | None = None
    ) -> DenseDraw:
        stack = self.stack if inputs is None else self.stack.fold_input(*inputs)
        stack = stack if outputs is None else stack.fold_output(*outputs)
        return replace(self, stack=stack, scale=self._folded_scale(outputs))

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


@dataclass(frozen=True)
class ModuleDraw(Draw):
    """A draw of an arbitrary module: parameters (S, n) under ``vmap``, affine maps kept around it.

    Attributes
    ----------
    network : StackedNetwork
    params : Tensor
        (S, n).
    before, after : tuple of Tensor, optional
        Affine maps (scale, shift) of inputs and outputs.
    projection : Tensor, optional
        Matrix applied to the inputs before everything else.
    """

    network: StackedNetwork
    params: Tensor
    before: tuple[Tensor, Tensor] | None = None
    after: tuple[Tensor, Tensor] | None = None
    projection: Tensor | None = None

    def each(self, x: Tensor) -> Tensor:  # noqa: D102
        x = x if self.projection is None else x @ self.projection
        x = x if self.before is None else x * self.before[0] + self.before[1]
        y = self.network.each(self.params, x)
        return y if self.after is None else y * self.after[0] + self.after[1]

    def fold(  # noqa: D102
        self, inputs: tuple[Tensor, Tensor] | None = None, outputs: tuple[Tensor, Tensor] | None = None
    ) -> ModuleDraw:
        projection = self.projection
        if inputs is not None and projection is not None:  # (a z + b) @ M = z @ (a M) + b @ M
            (scale, shift), one = inputs, projection.new_ones(projection.shape[1])
            inputs, projection = (one, shift @ projection), scale.unsqueeze(-1) * projection
        return replace(
            self,
            projection=projection,
            before=_compose(self.before, inputs, outer_first=False),
            after=_compose(self.after, outputs, outer_first=True),
            scale=self._folded_scale(outputs),
        )

    def project(self, matrix: Tensor) -> ModuleDraw:  # noqa: D102
        return replace(self, projection=matrix if self.projection is None else matrix @ self.projection)


def _compose(
    old: tuple[Tensor, Tensor] | None, new: tuple[Tensor, Tensor] | None, *, outer_first: bool
) -> tuple[Tensor, Tensor] | None:
    if old is None or new is None:
        return new if old is None else old
    (a, b), (c, d) = (new, old) if outer_first else (old, new)  # the result is z -> a * (c * z + d) + b
    return a * c, a * d + b


def make_draw(
    network: StackedNetwork,
    params: Tensor,
    scale: Tensor,
    likelihood: Gaussian,
    masks: tuple[Tensor | None, ...] | None = None,
) -> Draw:
    """Build the cheapest draw for S functions.

    Parameters
    ----------
    network : StackedNetwork
    params : Tensor
        (S, n); with masks (1, n).
    scale : Tensor
        (S, out).
    likelihood : Gaussian
    masks : tuple of (Tensor or None), optional
        One per hidden layer, (S, width).
    """
    params, scale = params.detach(), scale.detach()
    if network.dense_plan is not None:
        return DenseDraw(scale.shape[0], scale, likelihood, network.dense(params, masks))
    if masks is not None:
        raise UserError("masks need a plain stack of Linear layers")
    return ModuleDraw(scale.shape[0], scale, likelihood, network, params)


def spread(stored: int, size: int, generator: torch.Generator) -> Tensor:
    """Indices (size,) into ``stored`` functions, as even as can be: without repeats while size <= stored."""
    if size < 1:
        raise UserError(f"draw size {size}: expected at least 1")
    whole, rest = divmod(size, stored)
    extra = torch.randperm(stored, generator=generator, device=generator.device)[:rest].sort().values
    return torch.cat([torch.arange(stored, device=generator.device).repeat(whole), extra])
