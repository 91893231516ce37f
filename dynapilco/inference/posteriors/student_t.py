"""The mean-field Student-t posterior: heavier tails than a normal one."""

from __future__ import annotations

import math
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

LEAST_DF = 2.0
"""At and below it the variance is infinite, and with it the KL to every normal prior."""


@register_posterior("student_t", "t")
@dataclass(frozen=True)
class StudentT(Posterior):
    """theta_i = params_i + softplus(rho_i) t_i with t_i ~ Student-t(df), independent.

    t = e sqrt(df / (2 g)) with e ~ N(0, 1) and g ~ Gamma(df / 2, 1); a learned df is differentiated implicitly through
    g (Figurnov et al. 2018, "Implicit reparameterization gradients").

    Attributes
    ----------
    df : float
        Degrees of freedom, above 2.
    learn_df : bool
        Learn one df for each member, starting from ``df``.
    """

    df: float = 5.0
    learn_df: bool = False

    def __post_init__(self) -> None:
        if not LEAST_DF < self.df < math.inf:
            raise UserError(f"df={self.df!r}: expected a finite number above {LEAST_DF}, where the variance exists")

    @property
    def tensors(self) -> tuple[str, ...]:
        """``rho`` (S, n), and ``raw_df`` (S, 1) where it is learned."""
        return ("rho", "raw_df") if self.learn_df else ("rho",)

    def init(self, loc: Tensor, scale: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Standard deviations equal to ``scale``."""
        width = scale.to(loc) * (1 - 2 / self.df) ** 0.5
        result = {"params": loc, "rho": inverse_softplus(width).expand_as(loc).clone()}
        if self.learn_df:
            result["raw_df"] = inverse_softplus(loc.new_full((loc.shape[0], 1), self.df - LEAST_DF))
        return result

    def sample(
        self, variational: Variational, samples: int, generator: torch.Generator, *, antithetic: bool = False
    ) -> Tensor:
        """Params + width * t; antithetic pairs share their gamma numbers."""
        loc = variational["params"]
        shape = (loc.shape[0], samples, loc.shape[1])
        noise = normal_noise(shape, loc, generator, antithetic=antithetic)
        df = self._df(variational).unsqueeze(1)
        half = (samples + 1) // 2 if antithetic else samples
        shapes = (df / 2).expand(loc.shape[0], half, loc.shape[1]).contiguous()
        gamma = torch._standard_gamma(shapes, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
        gamma = torch.cat([gamma, gamma[:, : samples - half]], dim=1).clamp_min(torch.finfo(loc.dtype).tiny)
        return loc.unsqueeze(1) + softplus(variational["rho"]).unsqueeze(1) * noise * (df / (2 * gamma)).sqrt()

    def log_prob(self, variational: Variational, theta: Tensor) -> Tensor:
        """Sum over weights of the Student-t log density."""
        width, df = softplus(variational["rho"]).unsqueeze(1), self._df(variational).unsqueeze(1)
        z = (theta - variational["params"].unsqueeze(1)) / width
        constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (df.log() + math.log(math.pi))
        return (constant - width.log() - 0.5 * (df + 1) * torch.log1p(z.square() / df)).sum(-1)

    def std(self, variational: Variational) -> Tensor:
        """Width * sqrt(df / (df - 2))."""
        df = self._df(variational)
        return softplus(variational["rho"]) * (df / (df - 2)).sqrt()

    def entropy(self, variational: Variational) -> Tensor:
        """Sum log width + n h(df), where h is the entropy of a standard t."""
        df = self._df(variational)
        a, b = (df + 1) / 2, df / 2
        log_beta = torch.lgamma(b) + math.lgamma(0.5) - torch.lgamma(a)
        each = a * (torch.digamma(a) - torch.digamma(b)) + 0.5 * df.log() + log_beta
        return (softplus(variational["rho"]).log() + each).sum(-1)

    def _df(self, variational: Variational) -> Tensor:
        """(S, 1)."""
        if self.learn_df:
            return LEAST_DF + softplus(variational["raw_df"])
        return variational["params"].new_full((variational["params"].shape[0], 1), self.df)
