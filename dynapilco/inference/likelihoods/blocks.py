"""One block of a joint likelihood, and the distribution of several blocks side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods.base import Likelihood


@dataclass(frozen=True)
class Block:
    """A likelihood and the sizes of its share.

    Attributes
    ----------
    likelihood : Likelihood
    columns, width, raw, noise : int
        Columns of y, of f, of the raw and of the constrained noise parameters.
    foldable : bool
        Whether the likelihood can be rescaled.
    """

    likelihood: Likelihood
    columns: int
    width: int
    raw: int
    noise: int
    foldable: bool

    @classmethod
    def of(cls, likelihood: Likelihood, columns: int) -> Block:
        """Measure the share of ``columns`` target columns."""
        raw = likelihood.init(1, columns)
        noise, foldable = likelihood.constrain(raw), True
        try:
            noise = likelihood.fold(noise, noise.new_ones(columns), noise.new_zeros(columns))[0]
        except UserError:  # has no unit
            foldable = False
        width = likelihood.network_outputs(columns)
        return cls(likelihood, columns, width, raw.shape[-1], noise.shape[-1], foldable)

    @property
    def name(self) -> str:
        """Of the likelihood's class."""
        return type(self.likelihood).__name__

    def constrain(self, raw: Tensor) -> Tensor:
        """Constrained parameters in the shape that they have after any folding: later shares stay where they are."""
        noise = self.likelihood.constrain(raw)
        if not self.foldable:
            return noise
        return self.likelihood.fold(noise, noise.new_ones(self.columns), noise.new_zeros(self.columns))[0]

    def prepare(self, y: Tensor) -> Tensor:
        """The block's targets (..., N, columns), checked."""
        try:
            return self.likelihood.prepare(y, self.columns)
        except UserError as error:
            raise UserError(f"block {self.name} of likelihood Joint: {error}") from error

    def fold(self, noise: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noise, scale and shift of the block's share of f, (width,) each."""
        if self.foldable:
            noise, scale, shift = self.likelihood.fold(noise, scale, shift)
            return noise, scale.expand(self.width), shift.expand(self.width)
        if bool((scale != 1).any()) or bool((shift != 0).any()):
            raise UserError(
                f"likelihood Joint: targets of its block {self.name} have no unit, so their scale must be 1 and their "
                f"shift 0; got scale {scale.tolist()} and shift {shift.tolist()}"
            )
        return noise, scale.new_ones(self.width), shift.new_zeros(self.width)


class BlockDistribution(Distribution):
    """Independent blocks of columns, side by side along the last axis of the batch.

    Values (..., S, B, out) of all blocks share one tensor; class numbers are stored as floating numbers where another
    block is floating. The mean and variance of a categorical column are NaN: classes have none.

    Parameters
    ----------
    parts : sequence of Distribution
        Batch shapes (S, B, out_i).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, parts: Sequence[Distribution]) -> None:
        self.parts = tuple(parts)
        self.sizes = [part.batch_shape[-1] for part in self.parts]
        shape = torch.Size([*self.parts[0].batch_shape[:-1], sum(self.sizes)])
        super().__init__(shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """(S, B, out)."""
        return torch.cat([part.mean for part in self.parts], -1)

    @property
    def variance(self) -> Tensor:
        """(S, B, out)."""
        return torch.cat([part.variance for part in self.parts], -1)

    def sample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        """Targets, ``sample_shape`` + (S, B, out)."""
        return torch.cat([part.sample(torch.Size(sample_shape)) for part in self.parts], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of each column: value (..., B, out) -> (..., S, B, out)."""
        return self._each(lambda part, piece: part.log_prob(piece), value)

    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function of each column; ``NotImplementedError`` where a block has none."""
        return self._each(lambda part, piece: part.cdf(piece), value)

    def _each(self, function: Callable[[Distribution, Tensor], Tensor], value: Tensor) -> Tensor:
        pieces = zip(self.parts, cut(value, self.sizes), strict=True)
        return torch.cat([function(part, piece) for part, piece in pieces], -1)


def cut(tensor: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """Pieces of the last axis."""
    return tensor.split(sizes, dim=-1)
