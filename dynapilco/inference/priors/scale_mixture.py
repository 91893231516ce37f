"""Two normals of different width: spike and slab."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors.base import register_prior
from dynapilco.inference.priors.elementwise import ElementwisePrior, require_scales


@register_prior("scale_mixture", "spike_and_slab")
@dataclass(frozen=True)
class ScaleMixture(ElementwisePrior):
    """Every weight ~ pi N(0, sigma1^2) + (1 - pi) N(0, sigma2^2) (Blundell et al. 2015, eq. 7).

    Attributes
    ----------
    pi : float
        Weight of the first component, in (0, 1).
    sigma1, sigma2 : float
        Standard deviations, above 0; usually sigma1 > sigma2, the spike.
    """

    pi: float = 0.5
    sigma1: float = 1.0
    sigma2: float = math.exp(-6)

    def __post_init__(self) -> None:
        require_scales(self, "sigma1", "sigma2")
        if not 0 < self.pi < 1:
            raise UserError(f"pi={self.pi!r}: expected a weight strictly between 0 and 1")

    def density(self, weights: Tensor) -> Tensor:
        """Log density of each weight."""
        square = -0.5 * weights.square()
        first = square / self.sigma1**2 + math.log(self.pi / self.sigma1)
        second = square / self.sigma2**2 + math.log((1 - self.pi) / self.sigma2)
        return torch.logaddexp(first, second) - 0.5 * math.log(2 * math.pi)

    def spread(self) -> float:
        """sqrt(pi sigma1^2 + (1 - pi) sigma2^2)."""
        return math.sqrt(self.pi * self.sigma1**2 + (1 - self.pi) * self.sigma2**2)

    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors."""
        shape, where = (size, layout.total), generator.device
        normal = torch.randn(shape, generator=generator, device=where)
        first = torch.rand(shape, generator=generator, device=where) < self.pi
        return torch.where(first, self.sigma1 * normal, self.sigma2 * normal)
