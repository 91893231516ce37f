"""Cholesky factors of covariances that are positive definite on paper."""

from __future__ import annotations

import torch
from torch import Tensor

JITTERS = (1e-14, 1e-12, 1e-10, 1e-8)


def factor(matrices: Tensor) -> Tensor:
    """Lower factors (..., N, N), float64.

    One that rounding has made indefinite gets a jitter on its diagonal, relative to the diagonal's mean; one that no
    jitter of ``JITTERS`` saves, or that is not finite, gives NaN: the fit then goes back to its last good state.
    """
    lower, info = torch.linalg.cholesky_ex(matrices)
    for jitter in JITTERS:
        bad = info != 0
        if not bool(bad.any()):
            return lower
        mean = matrices.diagonal(dim1=-2, dim2=-1).mean(-1)
        added = torch.diag_embed((jitter * mean * bad).unsqueeze(-1).expand(matrices.shape[:-1]))
        again, found = torch.linalg.cholesky_ex(matrices + added)
        lower, info = torch.where(bad[..., None, None], again, lower), torch.where(bad, found, info)
    return torch.where((info != 0)[..., None, None], torch.nan, lower)
