"""Student-t prior: mostly moderate weights, now and then a large one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.special import ndtr, stdtrit
from torch import Tensor
from torch.distributions import StudentT

from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors.base import register_prior
from dynapilco.inference.priors.elementwise import ElementwisePrior, require_scales
from dynapilco.inference.random import sample_distribution


@register_prior("student_t", "t")
@dataclass(frozen=True)
class StudentTPrior(ElementwisePrior):
    """Every weight ~ scale * t(df).

    Attributes
    ----------
    df : float
        Degrees of freedom, above 0; 1 is the Cauchy distribution, large values approach the normal one.
    scale : float
        Above 0.
    """

    df: float = 3.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        require_scales(self, "df", "scale")

    def density(self, weights: Tensor) -> Tensor:
        """Log density of each weight."""
        half = 0.5 * (self.df + 1)
        constant = math.lgamma(half) - math.lgamma(0.5 * self.df) - 0.5 * math.log(math.pi * self.df)
        return constant - math.log(self.scale) - half * torch.log1p((weights / self.scale).square() / self.df)

    def spread(self) -> float:
        """Standard deviation scale * sqrt(df / (df - 2)); for df <= 2 half the width of the central 68.3 % interval."""
        if self.df > 2:
            return self.scale * math.sqrt(self.df / (self.df - 2))
        return self.scale * float(stdtrit(self.df, ndtr(1.0)))

    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors."""
        loc = torch.zeros((), device=generator.device)
        return sample_distribution(StudentT(self.df + loc, loc, self.scale + loc), (size, layout.total), generator)
