"""How much of a precision matrix is kept: all of it, or its diagonal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.curvature.factor import covariance_factor
from dynapilco.inference.curvature.ggn import LocalModel

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Structure(ABC):
    """An approximation of the precision H of m weights.

    Attributes
    ----------
    names : tuple of str
        The parameters it is about, in the layout's order; m is the sum of their sizes.
    """

    names: tuple[str, ...]

    @abstractmethod
    def prior(self, precision: Tensor) -> Tensors:
        """Tensors (S, ...) that stand for diagonal precisions (S, m): the posterior before data."""

    @abstractmethod
    def posterior(self, local: LocalModel, precision: Tensor) -> Tensors:
        """Tensors of one member (without member axis): its data's curvature plus the prior's precision (m,)."""

    @abstractmethod
    def transform(self, tensors: Tensors, noise: Tensor) -> Tensor:
        """Correlate standard normal noise (size, m) to N(0, H^-1) by the tensors of one member."""


@dataclass(frozen=True)
class Full(Structure):
    """The whole matrix, kept as a factor C of its inverse: H^-1 = C C^T."""

    def prior(self, precision: Tensor) -> Tensors:  # noqa: D102
        factor = torch.diag_embed(precision.rsqrt())
        return {"factor": factor, "jitter": precision.new_zeros(precision.shape[0])}

    def posterior(self, local: LocalModel, precision: Tensor) -> Tensors:  # noqa: D102
        factor, jitter = covariance_factor(full_ggn(local, self.names) + torch.diag(precision))
        return {"factor": factor, "jitter": jitter}

    def transform(self, tensors: Tensors, noise: Tensor) -> Tensor:  # noqa: D102
        return noise @ tensors["factor"].T


@dataclass(frozen=True)
class Diagonal(Structure):
    """The diagonal of H, kept as standard deviations."""

    def prior(self, precision: Tensor) -> Tensors:  # noqa: D102
        return {"sd": precision.rsqrt()}

    def posterior(self, local: LocalModel, precision: Tensor) -> Tensors:  # noqa: D102
        return {"sd": (diagonal_ggn(local, self.names) + precision).rsqrt()}

    def transform(self, tensors: Tensors, noise: Tensor) -> Tensor:  # noqa: D102
        return noise * tensors["sd"]


def full_ggn(local: LocalModel, names: tuple[str, ...]) -> Tensor:
    """sum_i J_i^T Lambda_i J_i in the named parameters, (m, m), float64."""
    return torch.stack([part.T @ part for part in local.scaled_jacobians(names)]).sum(0)


def diagonal_ggn(local: LocalModel, names: tuple[str, ...]) -> Tensor:
    """Diagonal of ``full_ggn``, (m,), float64."""
    if not names:
        return torch.zeros(0, dtype=torch.float64, device=local.full.device)
    return torch.stack([part.square().sum(0) for part in local.scaled_jacobians(names)]).sum(0)
