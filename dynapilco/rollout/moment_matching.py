"""Redraw particles from a Gaussian of their mean and full covariance (McHutchon 2014; Gal et al. 2016, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

RELATIVE_JITTER = 1e-6
ABSOLUTE_JITTER = 1e-10


def moment_match(x: Tensor, normals: Tensor) -> Tensor:
    """Particles with the moments of x, made from fixed normals; gradients pass through mean and covariance.

    Parameters
    ----------
    x : Tensor
        (R, S, P, D); moments are taken over all S x P particles of a candidate.
    normals : Tensor
        (R, S, P, D), zero mean and unit covariance over the particles.

    Returns
    -------
    Tensor
        (R, S, P, D): ``mean + normals @ L^T`` with ``L L^T`` the covariance. All NaN for a candidate whose covariance
        has no Cholesky factor, so that the caller's guard counts it.
    """
    flat = x.flatten(1, 2)
    mean = flat.mean(1, keepdim=True)
    centred = flat - mean
    covariance = centred.transpose(1, 2) @ centred / flat.shape[1]
    diagonal = covariance.diagonal(dim1=-2, dim2=-1).detach()
    jitter = torch.diag_embed(RELATIVE_JITTER * diagonal + ABSOLUTE_JITTER)
    factor, failed = torch.linalg.cholesky_ex(covariance + jitter)
    factor = torch.where((failed > 0).view(-1, 1, 1), torch.nan, factor)
    return (mean + normals.flatten(1, 2) @ factor.transpose(1, 2)).reshape(x.shape)
