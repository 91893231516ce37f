"""Prior distributions over the flat parameter vector of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.network import ParameterLayout


@dataclass(frozen=True)
class FanInNormal:
    """Independent normals: weights N(0, s^2 / fan_in), biases N(0, s^2).

    s is ``hidden_scale``, and ``output_scale`` for the last layer. An output scale of 2 says that the function moves
    over about two standard deviations of the (standardised) targets before data are seen.

    Attributes
    ----------
    hidden_scale, output_scale : float
        Dimensionless, above 0.
    """

    hidden_scale: float = 1.0
    output_scale: float = 2.0

    def __post_init__(self) -> None:
        for name in ("hidden_scale", "output_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name}={getattr(self, name)!r}: a prior scale must be finite and above 0")

    def std(self, layout: ParameterLayout) -> Tensor:
        """Prior standard deviation of each parameter, shape (n,)."""
        last = layout.names[-1].rpartition(".")[0]
        pieces = []
        for name, shape in zip(layout.names, layout.shapes, strict=True):
            scale = self.output_scale if name.rpartition(".")[0] == last else self.hidden_scale
            fan_in = shape[1:].numel() if len(shape) > 1 else 1
            pieces.append(torch.full((shape.numel(),), scale / fan_in**0.5))
        return torch.cat(pieces)

    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors."""
        std = self.std(layout).to(generator.device)
        return std * torch.randn(size, layout.total, generator=generator, device=generator.device)
