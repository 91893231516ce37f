"""Where named parameters lie in a flat vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class ParameterLayout:
    """Where each named parameter lies in a flat vector of n numbers.

    Attributes
    ----------
    names : tuple of str
    shapes : tuple of torch.Size
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @cached_property
    def sizes(self) -> list[int]:
        """Number of elements of each parameter."""
        return [shape.numel() for shape in self.shapes]

    @cached_property
    def total(self) -> int:
        """n, the length of the flat vector."""
        return sum(self.sizes)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """View (*lead, n) as named tensors (*lead, *shape)."""
        pieces = flat.split(self.sizes, dim=-1)
        return {
            name: piece.reshape(*flat.shape[:-1], *shape)
            for name, shape, piece in zip(self.names, self.shapes, pieces, strict=True)
        }

    def join(self, tensors: dict[str, Tensor]) -> Tensor:
        """Concatenate named tensors (*lead, *shape) into (*lead, n)."""
        lead = tensors[self.names[0]].shape[: tensors[self.names[0]].dim() - len(self.shapes[0])]
        return torch.cat([tensors[name].reshape(*lead, -1) for name in self.names], dim=-1)

    def slices(self) -> dict[str, slice]:
        """Place of each parameter in the flat vector."""
        places, start = {}, 0
        for name, size in zip(self.names, self.sizes, strict=True):
            places[name] = slice(start, start + size)
            start += size
        return places
