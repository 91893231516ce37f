"""The normal posterior with a full covariance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dynapilco.core.errors import UserError
from dynapilco.inference.posteriors.base import (
    Posterior,
    Variational,
    inverse_softplus,
    normal_noise,
    register_posterior,
)
from dynapilco.inference.posteriors.normal import HALF_LOG_2PI, normal_entropy

MOST_WEIGHTS = 5000
"""n^2 numbers, their gradient and two moments: 400 MB in float32 for each member at this size."""


@register_posterior("full_normal", "full_rank")
@dataclass(frozen=True)
class FullNormal(Posterior):
    """theta = params + L e with e ~ N(0, I): covariance L L', L = D (I + C), C strictly lower triangular.

    d = softplus(rho); C is in units of d, so that one learning rate suits weights of all scales (a Cholesky factor as
    in Kucukelbir et al. 2017, "Automatic differentiation variational inference", sec. 2.4).
    """

    @property
    def tensors(self) -> tuple[str, ...]:
        """``rho`` (S, n) and ``lower`` (S, n, n), of which only the part below the diagonal is used."""
        return ("rho", "lower")

    def init(self, loc: Tensor, scale: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Independent weights; raises ``UserError`` above ``MOST_WEIGHTS``."""
        members, n = loc.shape
        reason = self.refusal(n)
        if reason is not None:
            raise UserError(f"posterior 'full_normal': {reason}")
        return {
            "params": loc,
            "rho": inverse_softplus(scale.to(loc)).expand_as(loc).clone(),
            "lower": loc.new_zeros(members, n, n),
        }

    def refusal(self, weights: int) -> str | None:
        """Too many weights for n^2 numbers."""
        if weights <= MOST_WEIGHTS:
            return None
        return (
            f"a full covariance of {weights} weights needs {weights**2:,} numbers a member (at most {MOST_WEIGHTS} "
            "weights are allowed); use posterior='low_rank_normal', or exclude= to leave weights out"
        )

    def sample(
        self, variational: Variational, samples: int, generator: torch.Generator, *, antithetic: bool = False
    ) -> Tensor:
        """Params + L e."""
        loc = variational["params"]
        noise = normal_noise((loc.shape[0], samples, loc.shape[1]), loc, generator, antithetic=antithetic)
        mixed = torch.baddbmm(noise, noise, variational["lower"].tril(-1).mT)
        return torch.addcmul(loc.unsqueeze(1), softplus(variational["rho"]).unsqueeze(1), mixed)

    def log_prob(self, variational: Variational, theta: Tensor) -> Tensor:
        """The normal log density by one triangular solve."""
        d = softplus(variational["rho"])
        u = ((theta - variational["params"].unsqueeze(1)) / d.unsqueeze(1)).mT
        e = torch.linalg.solve_triangular(variational["lower"].tril(-1), u, upper=False, unitriangular=True)
        return -0.5 * e.square().sum(-2) - d.log().sum(-1, keepdim=True) - HALF_LOG_2PI * theta.shape[-1]

    def std(self, variational: Variational) -> Tensor:
        """d_i sqrt(1 + sum_j C_ij^2)."""
        return softplus(variational["rho"]) * (1 + variational["lower"].tril(-1).square().sum(-1)).sqrt()

    def entropy(self, variational: Variational) -> Tensor:
        """Sum log d + n/2 log(2 pi e)."""
        return normal_entropy(softplus(variational["rho"]))
