"""Laplace prior: the L1 penalty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors.base import register_prior
from dynapilco.inference.priors.elementwise import ElementwisePrior, require_scales


@register_prior("laplace", "l1")
@dataclass(frozen=True)
class LaplacePrior(ElementwisePrior):
    """Every weight has density exp(-|w| / scale) / (2 scale).

    The curvature is 0 almost everywhere: methods that need a positive one have nothing to hold on to.

    Attributes
    ----------
    scale : float
        Above 0; the standard deviation is sqrt(2) times as large.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        require_scales(self, "scale")

    def density(self, weights: Tensor) -> Tensor:
        """Log density of each weight."""
        return -weights.abs() / self.scale - math.log(2 * self.scale)

    def spread(self) -> float:
        """sqrt(2) * scale."""
        return math.sqrt(2) * self.scale

    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors: a difference of two exponential variables."""
        pair = torch.empty(2, size, layout.total, device=generator.device).exponential_(generator=generator)
        return self.scale * (pair[0] - pair[1])
