"""Counts: a Poisson variable for each output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributions
from torch.nn.functional import softplus

from dynapilco.core.errors import unknown_name
from dynapilco.inference.likelihoods.base import register_likelihood
from dynapilco.inference.likelihoods.discrete import DiscreteLikelihood

LINKS = ("log", "softplus")
TINY_LOGIT = -15.0
"""Below it softplus(f) and exp(f) are equal in float32 (and to 2e-7 in float64)."""


@register_likelihood("poisson", "counts")
@dataclass(frozen=True)
class Poisson(DiscreteLikelihood):
    """y ~ Poisson(rate), y = 0, 1, 2, ...

    Attributes
    ----------
    link : str
        ``"log"``: rate = exp(f). ``"softplus"``: rate = log(1 + exp(f)), which grows linearly, so that extrapolations
        stay finite.
    """

    link: str = "log"

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise unknown_name("link", self.link, LINKS)

    def distribution(self, noise: Tensor, f: Tensor) -> distributions.Poisson:
        """Of f (S, B, out) -> batch shape (S, B, out)."""
        return distributions.Poisson(self._log_rate(f).exp())

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Sum over outputs of y log rate - rate - log y!: f (S, B, out), y (B, out) or (S, B, out) -> (S, B)."""
        log_rate = self._log_rate(f)
        return (y * log_rate - log_rate.exp() - torch.lgamma(y + 1)).sum(-1)

    def prepare(self, y: Tensor, outputs: int) -> Tensor:
        """Targets as floating (..., N, out); ``UserError`` unless all are counts."""
        y = super().prepare(y, outputs)
        self._refuse(y, y < 0, "counts of at least 0")
        return y

    def _log_rate(self, f: Tensor) -> Tensor:
        if self.link == "log":
            return f
        safe = f.clamp_min(TINY_LOGIT)  # log(softplus) would be -inf below, and its gradient NaN
        return torch.where(f < TINY_LOGIT, f, softplus(safe).log())
