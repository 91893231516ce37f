"""The Kronecker-factored structure: products for layers that factorise, the diagonal for all other parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.curvature.ggn import LocalModel
from dynapilco.inference.curvature.kfac import Block, kronecker_factors
from dynapilco.inference.curvature.structure import Structure, Tensors, diagonal_ggn
from dynapilco.inference.layout import ParameterLayout


@dataclass(frozen=True)
class Kronecker(Structure):
    """Block-diagonal H: D^-1 (DAD (x) G + 1) D^-1 for each layer (see ``kfac``), kept by eigenvectors.

    Tensors of layer l, with in columns (its bias among them): ``in_l`` = D Q_A (in, in), ``out_l`` = Q_G (out, out) and
    ``scale_l`` (out, in), the standard deviations in the eigenbasis; ``sd`` (rest,) for the other parameters.

    Attributes
    ----------
    layout : ParameterLayout
        Of ``names`` alone.
    blocks : tuple of Block
    """

    layout: ParameterLayout
    blocks: tuple[Block, ...]

    @property
    def rest(self) -> tuple[str, ...]:
        """Names of the parameters that have their diagonal only."""
        taken = {name for block in self.blocks for name in block.names}
        return tuple(name for name in self.names if name not in taken)

    def prior(self, precision: Tensor) -> Tensors:  # noqa: D102
        found: Tensors = {"sd": self._rest(precision).rsqrt()}
        for i, block in enumerate(self.blocks):
            p = self._matrix(precision, block)
            found[f"in_{i}"] = torch.diag_embed(p.mean(-2).rsqrt())
            found[f"out_{i}"] = torch.eye(p.shape[-2], dtype=p.dtype, device=p.device).repeat(p.shape[0], 1, 1)
            found[f"scale_{i}"] = torch.ones_like(p)
        return found

    def posterior(self, local: LocalModel, precision: Tensor) -> Tensors:  # noqa: D102
        found: Tensors = {"sd": (diagonal_ggn(local, self.rest) + self._rest(precision)).rsqrt()}
        for i, (block, (a, g)) in enumerate(zip(self.blocks, kronecker_factors(local, self.blocks), strict=True)):
            d = self._matrix(precision, block).mean(-2).rsqrt()
            values_a, vectors_a = torch.linalg.eigh(d.unsqueeze(-1) * a * d)
            values_g, vectors_g = torch.linalg.eigh(g)
            found[f"in_{i}"], found[f"out_{i}"] = d.unsqueeze(-1) * vectors_a, vectors_g
            found[f"scale_{i}"] = (torch.outer(values_g.clamp_min(0.0), values_a.clamp_min(0.0)) + 1).rsqrt()
        return found

    def transform(self, tensors: Tensors, noise: Tensor) -> Tensor:  # noqa: D102
        named = self.layout.split(noise)
        start = 0
        for name in self.rest:
            shape = named[name].shape[1:]
            sd = tensors["sd"][start : start + shape.numel()]
            named[name], start = named[name] * sd.reshape(shape), start + shape.numel()
        for i, block in enumerate(self.blocks):
            e = self._matrix(noise, block) * tensors[f"scale_{i}"]
            moved = tensors[f"out_{i}"] @ e @ tensors[f"in_{i}"].T
            named |= self._take_apart(moved, block)
        return self.layout.join(named)

    def _rest(self, flat: Tensor) -> Tensor:
        named = self.layout.split(flat)
        pieces = [named[name].flatten(flat.dim() - 1) for name in self.rest]
        return torch.cat(pieces, dim=-1) if pieces else flat[..., :0]

    def _matrix(self, flat: Tensor, block: Block) -> Tensor:
        """Weight and bias of a block in vectors (*lead, m) as one matrix (*lead, out, in)."""
        lead, named = flat.shape[:-1], self.layout.split(flat)
        parts = [named[name].reshape(*lead, named[name].shape[len(lead)], -1) for name in block.names]
        return torch.cat(parts, dim=-1)

    def _take_apart(self, matrix: Tensor, block: Block) -> Tensors:
        shapes = dict(zip(self.layout.names, self.layout.shapes, strict=True))
        pieces = matrix.split([shapes[name][1:].numel() for name in block.names], dim=-1)
        return {
            name: piece.reshape(matrix.shape[0], *shapes[name]) for name, piece in zip(block.names, pieces, strict=True)
        }
