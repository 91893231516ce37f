"""Gaussian noise with one standard deviation for each output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods.base import Likelihood, register_likelihood

PRIOR_SPREAD = 3.0
"""Standard deviation of the weak normal prior on raw noise parameters, around their initial value."""


@register_likelihood("gaussian", "normal")
@dataclass(frozen=True)
class Gaussian(Likelihood):
    """y ~ N(f(x), sigma^2) with one sigma for each output and member, learned unless ``fixed`` is given.

    sigma = floor + softplus(raw). The floor keeps near-deterministic simulators from driving sigma to zero, where the
    posterior turns stiff.

    Attributes
    ----------
    floor : float
        Smallest sigma, in units of the (standardised) target.
    initial : float
        sigma before training, above the floor.
    fixed : float or None
        A known sigma for all outputs: nothing is learned.
    """

    floor: float = 0.005
    initial: float = math.exp(-1.5)
    fixed: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.floor < self.initial < math.inf:
            raise UserError(f"floor={self.floor!r}, initial={self.initial!r}: expected 0 < floor < initial")
        if self.fixed is not None and not 0 < self.fixed < math.inf:
            raise UserError(f"fixed={self.fixed!r}: a noise scale must be finite and above 0")

    def init(self, members: int, outputs: int) -> Tensor:
        """Raw parameters (members, outputs) that give ``initial``; none where sigma is fixed."""
        if self.fixed is not None:
            return torch.zeros(members, 0)
        return torch.full((members, outputs), self._raw_initial)

    @property
    def _raw_initial(self) -> float:
        return math.log(math.expm1(self.initial - self.floor))

    def constrain(self, raw: Tensor) -> Tensor:
        """sigma, (S, out), from raw parameters (S, out); (S, 1) where it is fixed."""
        if self.fixed is not None:
            return raw.new_full((raw.shape[0], 1), self.fixed)
        return self.floor + torch.nn.functional.softplus(raw)

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Log density of each row, summed over outputs: f (S, B, out), y (B, out) or (S, B, out) -> (S, B)."""
        sigma = self.constrain(raw).unsqueeze(-2)
        z = (y - f) / sigma
        per_output = -0.5 * z.square() - sigma.log()
        return per_output.sum(-1) - 0.5 * math.log(2 * math.pi) * f.shape[-1]

    def total_log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Sum of ``log_prob`` over rows, (S,): residuals are squared and summed before sigma comes in."""
        sigma, rows = self.constrain(raw), f.shape[-2]
        squares = (f - y).square().sum(-2)
        per_output = torch.addcdiv(sigma.log() * rows, squares, sigma.square(), value=0.5)
        return -per_output.sum(-1) - 0.5 * math.log(2 * math.pi) * rows * f.shape[-1]

    def log_prior(self, raw: Tensor) -> Tensor:
        """Weak normal prior on raw, centred on its initial value."""
        return -0.5 * ((raw - self._raw_initial) / PRIOR_SPREAD).square().sum(-1)

    def distribution(self, noise: Tensor, f: Tensor) -> Normal:
        """Predictive distribution of each function: f (S, B, out), noise (S, out) -> batch shape (S, B, out)."""
        return Normal(f, noise.unsqueeze(-2).expand_as(f))

    def scale(self, noise: Tensor) -> Tensor:
        """Sigma itself, (S, out)."""
        return noise

    def fold(self, noise: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sigma is multiplied by ``|scale|``."""
        return noise * scale.abs(), scale, shift
