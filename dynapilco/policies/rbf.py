"""Radial basis functions: PILCO's policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.dynamics.encoding import Geometry
from dynapilco.inference.layout import ParameterLayout
from dynapilco.policies.base import POLICIES, Policy


@POLICIES.register("RbfPolicy", "rbf")
class RbfPolicy(Policy):
    """Weighted sum of K Gaussian bumps over the features, with learned centres, widths and weights.

    raw = sum_k w_k exp(-1/2 sum_i ((z_i - c_ki) / l_i)^2)   (Deisenroth & Rasmussen 2011).
    """

    @dataclass(frozen=True)
    class Options:
        """Number of bumps and their initial width."""

        units: int = 100
        width: float = 1.0

        def __post_init__(self) -> None:
            if not isinstance(self.units, int) or self.units < 1:
                raise UserError(f"units={self.units!r}: expected an integer of at least 1")
            if not self.width > 0:
                raise UserError(f"width={self.width!r}: expected a number above 0")

    def __init__(self, geometry: Geometry, low: Tensor, high: Tensor, scale: Tensor, options: Options) -> None:
        super().__init__(geometry, low, high, scale)
        self.options = options
        k, f, m = options.units, self.inputs, geometry.actions
        self.layout = ParameterLayout(
            ("centres", "log_widths", "weights"), (torch.Size((k, f)), torch.Size((f,)), torch.Size((k, m)))
        )

    def init(self, candidates: int, generator: torch.Generator) -> Tensor:
        """Centres N(0, 1) in scaled features, weights N(0, 1/4)."""
        k, f, m = self.options.units, self.inputs, self.geometry.actions
        device = generator.device
        centres = torch.randn(candidates, k, f, generator=generator, device=device)
        weights = 0.5 * torch.randn(candidates, k, m, generator=generator, device=device)
        widths = torch.full((candidates, f), math.log(self.options.width), device=device)
        return self.layout.join({"centres": centres, "log_widths": widths, "weights": weights})

    def raw(self, params: Tensor, features: Tensor) -> Tensor:
        """Raw actions (R, N, M)."""
        named = self.layout.split(params)
        inverse = torch.exp(-named["log_widths"]).unsqueeze(1)
        z, c = (features @ self.encoder) * inverse, named["centres"] * inverse
        # |z - c|^2 by matrix products: (R, N, K) without an (R, N, K, F) array
        square = z.square().sum(-1, keepdim=True) - 2 * z @ c.transpose(1, 2) + c.square().sum(-1).unsqueeze(1)
        return torch.exp(-0.5 * square.clamp_min(0.0)) @ named["weights"]
