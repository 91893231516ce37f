"""The normal posterior whose covariance is a diagonal plus a low rank."""

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

INITIAL_SHARE = 0.1
"""Share of the initial variance that lies in the factor: at a factor of 0 its gradient vanishes."""


@register_posterior("low_rank_normal", "low_rank")
@dataclass(frozen=True)
class LowRankNormal(Posterior):
    """theta = params + d * (e + C z) with e ~ N(0, I_n), z ~ N(0, I_r): covariance D (I + C C') D.

    (Ong, Nott & Smith 2018, "Gaussian variational approximation with a factor covariance structure", with the factor in
    units of d = softplus(rho), so that one learning rate suits weights of all scales.)

    Attributes
    ----------
    rank : int
        r, columns of C.
    """

    rank: int = 4

    def __post_init__(self) -> None:
        if not (isinstance(self.rank, int) and self.rank >= 1):
            raise UserError(f"rank={self.rank!r}: expected an integer of at least 1")

    @property
    def tensors(self) -> tuple[str, ...]:
        """``rho`` (S, n) and ``factor`` (S, n, r), which is C."""
        return ("rho", "factor")

    def init(self, loc: Tensor, scale: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Standard deviations near ``scale``, random directions in the factor."""
        ratio = INITIAL_SHARE / (1 - INITIAL_SHARE)
        noise = torch.randn(*loc.shape, self.rank, generator=generator, device=loc.device, dtype=loc.dtype)
        rho = inverse_softplus(scale.to(loc) * (1 - INITIAL_SHARE) ** 0.5).expand_as(loc).clone()
        return {"params": loc, "rho": rho, "factor": noise * (ratio / self.rank) ** 0.5}

    def sample(
        self, variational: Variational, samples: int, generator: torch.Generator, *, antithetic: bool = False
    ) -> Tensor:
        """Params + d * (e + C z)."""
        loc, factor = variational["params"], variational["factor"]
        members, n, rank = factor.shape
        noise = normal_noise((members, samples, n + rank), loc, generator, antithetic=antithetic)
        mixed = torch.baddbmm(noise[..., :n], noise[..., n:], factor.mT)
        return torch.addcmul(loc.unsqueeze(1), softplus(variational["rho"]).unsqueeze(1), mixed)

    def log_prob(self, variational: Variational, theta: Tensor) -> Tensor:
        """The normal log density by the matrix inversion lemma: only an (r, r) matrix is factorised."""
        d, factor = softplus(variational["rho"]), variational["factor"]
        u = (theta - variational["params"].unsqueeze(1)) / d.unsqueeze(1)
        inner = _inner_cholesky(factor)
        inside = torch.linalg.solve_triangular(inner, (u @ factor).mT, upper=False)
        square = u.square().sum(-1) - inside.square().sum(-2)
        log_det = (d.log().sum(-1) + _log_diagonal(inner)).unsqueeze(-1)
        return -0.5 * square - log_det - HALF_LOG_2PI * theta.shape[-1]

    def std(self, variational: Variational) -> Tensor:
        """d_i sqrt(1 + sum_k C_ik^2)."""
        return softplus(variational["rho"]) * (1 + variational["factor"].square().sum(-1)).sqrt()

    def entropy(self, variational: Variational) -> Tensor:
        """Sum log d + 1/2 log det(I + C'C) + n/2 log(2 pi e)."""
        inner = _inner_cholesky(variational["factor"])
        return normal_entropy(softplus(variational["rho"])) + _log_diagonal(inner)


def _inner_cholesky(factor: Tensor) -> Tensor:
    """Cholesky factor (S, r, r) of I + C'C."""
    identity = torch.eye(factor.shape[-1], device=factor.device, dtype=factor.dtype)
    return torch.linalg.cholesky(identity + factor.mT @ factor)


def _log_diagonal(cholesky: Tensor) -> Tensor:
    return cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
