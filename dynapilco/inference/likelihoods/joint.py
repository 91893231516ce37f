"""Targets of several kinds: blocks of columns, each with its own likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods.base import Likelihood, make_likelihood, register_likelihood
from dynapilco.inference.likelihoods.blocks import Block, BlockDistribution, cut
from dynapilco.inference.likelihoods.feedback import plain_spec


@register_likelihood("joint")
@dataclass(frozen=True)
class Joint(Likelihood):
    """Blocks of target columns, independent given the network's output.

    The columns of y, of f and of the noise are those of the first block, then of the second, and so on.

    Attributes
    ----------
    blocks : tuple of (likelihood, columns)
        ``likelihood`` is an object, a name, or a pair (name, options); ``columns`` counts its target columns.

    Examples
    --------
    >>> from dynapilco.inference.likelihoods import Joint
    >>> joint = Joint((("gaussian", 3), ("bernoulli", 1), (("categorical", {"classes": 4}), 1)))
    >>> joint.network_outputs(5)
    8
    """

    blocks: tuple[tuple[Any, int], ...]

    def __post_init__(self) -> None:
        if not isinstance(self.blocks, tuple | list) or not self.blocks:
            raise UserError(f"blocks={self.blocks!r}: expected pairs (likelihood, columns)")
        for block in self.blocks:
            if not (isinstance(block, tuple | list) and len(block) == 2 and isinstance(block[1], int) and block[1] > 0):
                raise UserError(f"blocks: {block!r} is no pair (likelihood, number of target columns)")
        object.__setattr__(self, "blocks", tuple((plain_spec(spec), columns) for spec, columns in self.blocks))
        _ = self.parts  # raises for unknown names, and for blocks whose width is not known

    @cached_property
    def parts(self) -> tuple[Block, ...]:
        """The blocks with their likelihoods made, and their widths."""
        return tuple(Block.of(make_likelihood(spec), columns) for spec, columns in self.blocks)

    @property
    def columns(self) -> int:
        """Target columns of all blocks."""
        return sum(block.columns for block in self.parts)

    def network_outputs(self, outputs: int) -> int:
        """Sum of the blocks' widths."""
        if outputs != self.columns:
            raise UserError(f"outputs={outputs}: the blocks of likelihood Joint have {self.columns} target columns")
        return sum(block.width for block in self.parts)

    def target_columns(self, width: int) -> int:
        """Those of all blocks; ``UserError`` where the width is not the sum of theirs."""
        wanted = self.network_outputs(self.columns)
        if width != wanted:
            listed = ", ".join(f"{block.name} {block.width}" for block in self.parts)
            raise UserError(f"likelihood Joint: the network has {width} outputs, expected {wanted} ({listed})")
        return self.columns

    def init(self, members: int, outputs: int) -> Tensor:
        """Raw parameters of all blocks, (members, k)."""
        self.network_outputs(outputs)
        return torch.cat([block.likelihood.init(members, block.columns) for block in self.parts], -1)

    def constrain(self, raw: Tensor) -> Tensor:
        """Constrained parameters of all blocks; single ones are repeated for each column that can be rescaled."""
        pieces = cut(raw, [block.raw for block in self.parts])
        return torch.cat([block.constrain(piece) for block, piece in zip(self.parts, pieces, strict=True)], -1)

    def log_prior(self, raw: Tensor) -> Tensor:
        """Sum over the blocks, (S,)."""
        pieces = cut(raw, [block.raw for block in self.parts])
        terms = [block.likelihood.log_prior(piece) for block, piece in zip(self.parts, pieces, strict=True)]
        return torch.stack(terms).sum(0)

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Sum over the blocks: f (S, B, width), y (B, out) or (S, B, out) -> (S, B)."""
        pieces = zip(
            self.parts, cut(raw, [b.raw for b in self.parts]), self._outputs(f), self._targets(y), strict=True
        )  # fmt: skip
        return torch.stack([block.likelihood.log_prob(*each) for block, *each in pieces]).sum(0)

    def distribution(self, noise: Tensor, f: Tensor) -> BlockDistribution:
        """Of f (S, B, width), constrained noise (S, k) -> batch shape (S, B, out)."""
        pieces = zip(self.parts, self._noise(noise), self._outputs(f), strict=True)
        return BlockDistribution([block.likelihood.distribution(*each) for block, *each in pieces])

    def prepare(self, y: Tensor, outputs: int) -> Tensor:
        """Targets (..., N, out), each block checked by its own likelihood."""
        if y.dim() not in (2, 3) or y.shape[-1] != self.columns or outputs != self.columns:
            raise UserError(
                f"y has shape {tuple(y.shape)} and the model {outputs} target columns: the blocks of likelihood Joint "
                f"expect (N, {self.columns}) or (S, N, {self.columns})"
            )
        pieces = zip(self.parts, self._targets(y), strict=True)
        return torch.cat([block.prepare(piece) for block, piece in pieces], -1)

    def scale(self, noise: Tensor) -> Tensor:
        """Standard deviations (S, out), where all blocks have constant ones."""
        pieces = zip(self.parts, self._noise(noise), strict=True)
        return torch.cat([b.likelihood.scale(piece).expand(-1, b.columns) for b, piece in pieces], -1)

    def fold(self, noise: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each block by its own rule; blocks without a unit take scale 1 and shift 0 only."""
        pieces = zip(
            self.parts, self._noise(noise),
            self._targets(scale.expand(self.columns)), self._targets(shift.expand(self.columns)), strict=True,
        )  # fmt: skip
        folded = [block.fold(*each) for block, *each in pieces]
        noises, scales, shifts = zip(*folded, strict=True)
        return torch.cat(noises, -1), torch.cat(scales), torch.cat(shifts)

    def _noise(self, noise: Tensor) -> tuple[Tensor, ...]:
        return cut(noise, [block.noise for block in self.parts])

    def _outputs(self, f: Tensor) -> tuple[Tensor, ...]:
        return cut(f, [block.width for block in self.parts])

    def _targets(self, y: Tensor) -> tuple[Tensor, ...]:
        return cut(y, [block.columns for block in self.parts])
