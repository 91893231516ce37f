"""Yes or no: a Bernoulli variable for each output."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, distributions
from torch.nn.functional import softplus

from dynapilco.inference.likelihoods.base import register_likelihood
from dynapilco.inference.likelihoods.discrete import DiscreteLikelihood


@register_likelihood("bernoulli", "binary")
@dataclass(frozen=True)
class Bernoulli(DiscreteLikelihood):
    """y ~ Bernoulli(sigmoid(f)): f are logits, y is 0 or 1 (or bool)."""

    def distribution(self, noise: Tensor, f: Tensor) -> distributions.Bernoulli:
        """Of f (S, B, out) -> batch shape (S, B, out)."""
        return distributions.Bernoulli(logits=f)

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Sum over outputs of y f - softplus(f): f (S, B, out), y (B, out) or (S, B, out) -> (S, B)."""
        return (y * f - softplus(f)).sum(-1)

    def prepare(self, y: Tensor, outputs: int) -> Tensor:
        """Targets as floating (..., N, out); ``UserError`` unless all are 0 or 1."""
        y = super().prepare(y, outputs)
        self._refuse(y, (y != 0) & (y != 1), "0 or 1")
        return y
