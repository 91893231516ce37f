"""Observation models: how targets scatter around the network's output."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal

from dynapilco.core.errors import UserError


@dataclass(frozen=True)
class Gaussian:
    """y ~ N(f(x), sigma^2) with one learned sigma for each output and member.

    sigma = floor + softplus(raw). The floor keeps near-deterministic simulators from driving sigma to zero, where the
    posterior turns stiff.

    Attributes
    ----------
    floor : float
        Smallest sigma, in units of the (standardised) target.
    initial : float
        sigma before training, above the floor.
    """

    floor: float = 0.005
    initial: float = math.exp(-1.5)

    def __post_init__(self) -> None:
        if not 0 < self.floor < self.initial:
            raise UserError(f"floor={self.floor!r}, initial={self.initial!r}: expected 0 < floor < initial")

    def init(self, members: int, outputs: int) -> Tensor:
        """Raw parameters (members, outputs) that give ``initial``."""
        return torch.full((members, outputs), math.log(math.expm1(self.initial - self.floor)))

    def scale(self, raw: Tensor) -> Tensor:
        """sigma, (S, out), from raw parameters (S, out)."""
        return self.floor + torch.nn.functional.softplus(raw)

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Log density of each row, summed over outputs: f (S, B, out), y (B, out) or (S, B, out) -> (S, B)."""
        sigma = self.scale(raw).unsqueeze(-2)
        z = (y - f) / sigma
        return (-0.5 * z.square() - sigma.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def distribution(self, scale: Tensor, f: Tensor) -> Normal:
        """Predictive distribution of each function: f (S, B, out), scale (S, out) -> batch shape (S, B, out)."""
        return Normal(f, scale.unsqueeze(-2).expand_as(f))
