"""Noise with heavy tails: a Student-t variable for each output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, distributions
from torch.nn.functional import softplus

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods.base import Likelihood, register_likelihood
from dynapilco.inference.likelihoods.gaussian import PRIOR_SPREAD

DF_FLOOR = 2.1
"""Smallest degrees of freedom that are learned: at 2 the variance becomes infinite."""


def _inverse_softplus(value: float) -> float:
    return math.log(math.expm1(value)) if value < 30 else value


def _log_constant(df: Tensor | float) -> Tensor | float:
    """Log density at 0 for scale 1."""
    if isinstance(df, Tensor):
        return torch.lgamma(0.5 * (df + 1)) - torch.lgamma(0.5 * df) - 0.5 * (math.pi * df).log()
    return math.lgamma(0.5 * (df + 1)) - math.lgamma(0.5 * df) - 0.5 * math.log(math.pi * df)


@register_likelihood("student_t", "t")
@dataclass(frozen=True)
class StudentT(Likelihood):
    """y ~ f(x) + scale * t(df), with one scale for each output and member, learned: scale = floor + softplus(raw).

    Constrained noise is (S, out), the scales; with learned degrees of freedom (S, 2 out), scales and then df.

    Attributes
    ----------
    df : float
        Degrees of freedom above 0; where they are learned, their value before training (above 2.1).
    learn_df : bool
        One df for each output and member is learned, df = 2.1 + softplus(raw).
    floor : float
        Smallest scale, in units of the (standardised) target.
    initial : float
        scale before training, above the floor.
    """

    df: float = 4.0
    learn_df: bool = False
    floor: float = 0.005
    initial: float = math.exp(-1.5)

    def __post_init__(self) -> None:
        least = DF_FLOOR if self.learn_df else 0.0
        if not least < self.df < math.inf:
            raise UserError(f"df={self.df!r}: expected finite degrees of freedom above {least:g}")
        if not 0 < self.floor < self.initial < math.inf:
            raise UserError(f"floor={self.floor!r}, initial={self.initial!r}: expected 0 < floor < initial")

    def init(self, members: int, outputs: int) -> Tensor:
        """Raw parameters (members, out), or (members, 2 out) with learned df."""
        return self._start(torch.zeros(members, outputs * (1 + self.learn_df)))

    def _start(self, like: Tensor) -> Tensor:
        """Raw parameters before training, in the shape of ``like``."""
        scale = _inverse_softplus(self.initial - self.floor)
        if not self.learn_df:
            return torch.full_like(like, scale)
        first, second = like.chunk(2, dim=-1)
        df = _inverse_softplus(self.df - DF_FLOOR)
        return torch.cat([torch.full_like(first, scale), torch.full_like(second, df)], -1)

    def constrain(self, raw: Tensor) -> Tensor:
        """Scales (S, out), and df behind them where they are learned."""
        if not self.learn_df:
            return self.floor + softplus(raw)
        scale, df = softplus(raw).chunk(2, dim=-1)
        return torch.cat([self.floor + scale, DF_FLOOR + df], -1)

    def log_prior(self, raw: Tensor) -> Tensor:
        """Weak normal prior on raw, centred on its initial value."""
        return -0.5 * ((raw - self._start(raw)) / PRIOR_SPREAD).square().sum(-1)

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Log density of each row, summed over outputs: f (S, B, out), y (B, out) or (S, B, out) -> (S, B)."""
        scale, df = self._parts(self.constrain(raw).unsqueeze(-2))
        tail = torch.log1p(((y - f) / scale).square() / df)
        return (_log_constant(df) - scale.log() - 0.5 * (df + 1) * tail).sum(-1)

    def distribution(self, noise: Tensor, f: Tensor) -> distributions.StudentT:
        """Of f (S, B, out), noise as in ``constrain`` -> batch shape (S, B, out)."""
        scale, df = self._parts(noise.unsqueeze(-2))
        return distributions.StudentT(torch.as_tensor(df).to(f).expand_as(f), f, scale.expand_as(f))

    def scale(self, noise: Tensor) -> Tensor:
        """Standard deviation, (S, out): scale * sqrt(df / (df - 2))."""
        scale, df = self._parts(noise)
        if not self.learn_df and self.df <= 2:
            raise UserError(f"df={self.df!r}: Student-t noise has a finite standard deviation only for df above 2")
        return scale * (df / (df - 2)) ** 0.5

    def fold(self, noise: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scales are multiplied by ``|scale|``; degrees of freedom have no unit."""
        own, df = self._parts(noise)
        moved = own * scale.abs()
        return torch.cat([moved, df], -1) if isinstance(df, Tensor) else moved, scale, shift

    def _parts(self, noise: Tensor) -> tuple[Tensor, Tensor | float]:
        if not self.learn_df:
            return noise, self.df
        scale, df = noise.chunk(2, dim=-1)
        return scale, df
