"""Horseshoe prior: a spike at 0 and tails like those of a Cauchy variable."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors.base import register_prior
from dynapilco.inference.priors.elementwise import ElementwisePrior, require_scales
from dynapilco.inference.priors.exponential_integral import log_scaled_e1

SMALLEST_U = 1e-20
"""The density is infinite at 0; it is held constant for abs(w) < 1.4e-10 scale, which moves 7e-11 of the mass."""
CENTRAL = 1.2729326911608485
"""Half the width of the central 68.27 % interval, for scale 1: by quadrature of the mixture (see the tests)."""


@register_prior("horseshoe")
@dataclass(frozen=True)
class HorseshoePrior(ElementwisePrior):
    r"""Every weight ~ N(0, (scale * l)^2) with l half-Cauchy (Carvalho, Polson and Scott 2010), l integrated out.

    p(w) = e^u E1(u) / (scale sqrt(2 pi^3)), u = w^2 / (2 scale^2). The exact marginal density needs no auxiliary
    variables, so every method can use it; but it is log-convex on either side of 0: its curvature is negative, and the
    pull to 0 grows like 1 / |w|.

    Attributes
    ----------
    scale : float
        Global scale, above 0.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        require_scales(self, "scale")

    def density(self, weights: Tensor) -> Tensor:
        """Log density of each weight."""
        u = 0.5 * (weights / self.scale).square()
        return log_scaled_e1(u.clamp_min(SMALLEST_U)) - math.log(self.scale) - 0.5 * math.log(2 * math.pi**3)

    def spread(self) -> float:
        """Half the width of the central 68.3 % interval: the variance is infinite."""
        return CENTRAL * self.scale

    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors: a half-Cauchy variable times a normal one."""
        shape, where = (size, layout.total), generator.device
        angle = 0.5 * math.pi * torch.rand(shape, generator=generator, device=where, dtype=torch.float64)
        normal = torch.randn(shape, generator=generator, device=where)
        return self.scale * angle.tan().to(normal.dtype) * normal
