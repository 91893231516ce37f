"""The mean-field normal posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dynapilco.inference.posteriors.base import (
    Posterior,
    Variational,
    inverse_softplus,
    normal_noise,
    register_posterior,
)

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@register_posterior("normal", "mean_field")
@dataclass(frozen=True)
class Normal(Posterior):
    """theta_i ~ N(params_i, softplus(rho_i)^2), independent (Blundell et al. 2015, sec. 3.2)."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """``rho``, (S, n)."""
        return ("rho",)

    def init(self, loc: Tensor, scale: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Location and scale as they are given."""
        return {"params": loc, "rho": inverse_softplus(scale.to(loc)).expand_as(loc).clone()}

    def sample(
        self, variational: Variational, samples: int, generator: torch.Generator, *, antithetic: bool = False
    ) -> Tensor:
        """Params + std * e, e ~ N(0, I)."""
        loc = variational["params"]
        shape = (loc.shape[0], samples, loc.shape[1])
        noise = normal_noise(shape, loc, generator, antithetic=antithetic)
        return torch.addcmul(loc.unsqueeze(1), self.std(variational).unsqueeze(1), noise)

    def log_prob(self, variational: Variational, theta: Tensor) -> Tensor:
        """Sum over weights of the normal log density."""
        std = self.std(variational)
        z = (theta - variational["params"].unsqueeze(1)) / std.unsqueeze(1)
        return -0.5 * z.square().sum(-1) - std.log().sum(-1, keepdim=True) - HALF_LOG_2PI * theta.shape[-1]

    def std(self, variational: Variational) -> Tensor:
        """softplus(rho)."""
        return softplus(variational["rho"])

    def entropy(self, variational: Variational) -> Tensor:
        """Sum log std + n/2 log(2 pi e)."""
        return normal_entropy(self.std(variational))


def normal_entropy(std: Tensor) -> Tensor:
    """Entropy (S,) of independent normals of standard deviations (S, n)."""
    return std.log().sum(-1) + (HALF_LOG_2PI + 0.5) * std.shape[-1]
