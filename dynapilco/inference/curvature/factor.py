"""Factors of symmetric matrices that are positive definite on paper."""

from __future__ import annotations

import torch
from torch import Tensor

JITTERS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)


def covariance_factor(precision: Tensor) -> tuple[Tensor, Tensor]:
    """C (m, m) with C C^T = precision^-1, and the jitter () that its Cholesky factor needed.

    The jitter, added to the diagonal, is relative to its mean and almost always 0. A matrix that no jitter of
    ``JITTERS`` saves, or that is not finite, gives NaN: the fit then goes back to its last good state.

    Parameters
    ----------
    precision : Tensor
        (m, m), float64.
    """
    mean, eye = (
        precision.diagonal().mean(),
        torch.eye(precision.shape[0], dtype=precision.dtype, device=precision.device),
    )
    for jitter in JITTERS:
        lower, info = torch.linalg.cholesky_ex(precision + jitter * mean * eye if jitter else precision)
        if int(info) == 0:
            inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
            return inverse.T, precision.new_tensor(jitter)
    return torch.full_like(precision, torch.nan), precision.new_tensor(torch.nan)
