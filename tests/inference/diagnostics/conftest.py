"""Predictives written by hand, with only the members that the diagnostics ask for."""

import math
from dataclasses import dataclass

import pytest
import torch


@dataclass
class GaussianPredictive:
    """One Gaussian for each target, its variance split in two."""

    mean: torch.Tensor
    epistemic: torch.Tensor
    aleatoric: torch.Tensor

    @property
    def sd(self):
        return (self.epistemic + self.aleatoric).sqrt()

    def sample(self, n, generator):
        noise = torch.randn((n, *self.mean.shape), generator=generator, dtype=self.mean.dtype)
        return self.mean + self.sd * noise

    def quantile(self, q):
        return self.mean + self.sd * torch.special.ndtri(torch.tensor(q, dtype=self.mean.dtype))

    def log_prob(self, y):
        z = (y - self.mean) / self.sd
        return (-0.5 * z.square() - self.sd.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


@dataclass
class ClassPredictive:
    """Class probabilities of several functions, (S, B, C)."""

    members: torch.Tensor

    @property
    def probabilities(self):
        return self.members.mean(0)

    @property
    def aleatoric(self):
        return torch.special.entr(self.members).sum(-1).mean(0)

    @property
    def epistemic(self):
        return torch.special.entr(self.probabilities).sum(-1) - self.aleatoric


@pytest.fixture
def gaussian_predictive():
    return GaussianPredictive


@pytest.fixture
def class_predictive():
    return ClassPredictive


@pytest.fixture
def regression_problem():
    """Targets (2000, 2) and their true predictive."""
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(2000, 2, generator=g, dtype=torch.float64)
    variance = 0.5 + torch.rand(2000, 2, generator=g, dtype=torch.float64)
    y = mean + variance.sqrt() * torch.randn(2000, 2, generator=g, dtype=torch.float64)
    return GaussianPredictive(mean, 0.25 * variance, 0.75 * variance), y


@pytest.fixture
def blobs():
    """Three classes in the plane, (150, 2) and labels, with a function from inputs to a predictive."""
    g = torch.Generator().manual_seed(1)
    centres = torch.tensor([[-2.0, -1.0], [2.0, -1.0], [0.0, 2.0]])
    labels = torch.arange(150) % 3
    x = centres[labels] + 0.8 * torch.randn(150, 2, generator=g)
    shifted = centres + 0.5 * torch.randn(20, 3, 2, generator=g)

    def predict(points):
        distance = (points[None, :, None] - shifted[:, None]).square().sum(-1)
        return ClassPredictive(torch.softmax(-distance / (2 * 0.64), -1))

    return x, labels, predict
