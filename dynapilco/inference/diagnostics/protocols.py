"""What the reports, plots and robustness tables ask of a predictive distribution: these members and no base class."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class RegressionPredictive(Protocol):
    """Predictive distribution of B real targets with ``out`` outputs."""

    @property
    def mean(self) -> Tensor:
        """Predictive mean, (B, out)."""
        ...

    @property
    def epistemic(self) -> Tensor:
        """Variance of the functions' means, (B, out)."""
        ...

    @property
    def aleatoric(self) -> Tensor:
        """Mean of the functions' noise variances, (B, out)."""
        ...

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Predictive samples, (n, B, out)."""
        ...

    def quantile(self, q: float) -> Tensor:
        """Predictive quantiles of level ``q``, (B, out)."""
        ...

    def log_prob(self, y: Tensor) -> Tensor:
        """Log predictive density of targets y (B, out), outputs jointly: (B,) in nats."""
        ...


class ClassificationPredictive(Protocol):
    """Predictive distribution over C classes of B examples."""

    @property
    def probabilities(self) -> Tensor:
        """Class probabilities averaged over functions, (B, C), or (B, 1) that of class 1 of two."""
        ...

    @property
    def epistemic(self) -> Tensor:
        """Mutual information of label and function in nats, (B,)."""
        ...

    @property
    def aleatoric(self) -> Tensor:
        """Expected entropy of the label given the function in nats, (B,)."""
        ...


def class_probabilities(predictive: ClassificationPredictive) -> Tensor:
    """Return the probabilities of all classes, (B, C), also where only that of class 1 of two is given, (B, 1)."""
    probabilities = predictive.probabilities
    if probabilities.ndim == 2 and probabilities.shape[1] == 1:
        return torch.cat([1 - probabilities, probabilities], 1)
    return probabilities
