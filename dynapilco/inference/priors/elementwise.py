"""Priors that give every weight the same density."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors.base import Prior


class ElementwisePrior(Prior):
    """One density for all weights and biases, each independent of the others."""

    @abstractmethod
    def density(self, weights: Tensor) -> Tensor:
        """Normalised log density of each entry of ``weights``, in its shape, nats."""

    @abstractmethod
    def spread(self) -> float:
        """Standard deviation of a weight, or a robust one if that is infinite."""

    def log_prob(self, params: Tensor, layout: ParameterLayout) -> Tensor:
        """Sum over weights: params (S, n) -> (S,)."""
        return self.density(params).sum(-1)

    def std(self, layout: ParameterLayout) -> Tensor:
        """The spread everywhere, (n,)."""
        return torch.full((layout.total,), self.spread())


def require_scales(prior: object, *names: str) -> None:
    """Raise ``UserError`` unless the options ``names`` are finite and above 0."""
    for name in names:
        value = getattr(prior, name)
        if not 0 < value < math.inf:
            raise UserError(f"{name}={value!r}: a prior's {name} must be finite and above 0")
