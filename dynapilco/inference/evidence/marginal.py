"""The log marginal likelihood of a Gaussian process, with the gradient in closed form.

-log N(y; 0, A) = 1/2 y^T A^-1 y + 1/2 log |A| + N/2 log 2 pi,       A = K + sigma^2 / w
d / dA          = 1/2 (A^-1 - a a^T),   a = A^-1 y                    (Rasmussen & Williams 2006, eq. 5.9)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dynapilco.inference.evidence import cholesky


class _NegativeLogEvidence(torch.autograd.Function):
    """Forward once, with everything that the backward pass needs: no differentiation through a factorisation."""

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, y: Tensor) -> Tensor:
        factor = cholesky.factor(covariance)
        a = torch.cholesky_solve(y.unsqueeze(-1), factor)
        ctx.save_for_backward(factor, a)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 0.5 * (y * a.squeeze(-1)).sum(-1) + log_det + 0.5 * y.shape[-1] * math.log(2 * math.pi)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        factor, a = ctx.saved_tensors
        gradient = 0.5 * (torch.cholesky_inverse(factor) - a @ a.transpose(-1, -2))
        return grads[0][..., None, None] * gradient, None


def negative_log_evidence(kernel: Tensor, y: Tensor, noise: Tensor, weights: Tensor | None) -> Tensor:
    """-log p(y) of each output, (O,), nats.

    Parameters
    ----------
    kernel : Tensor
        Covariance of each output's function, (O, N, N).
    y : Tensor
        (N, O).
    noise : Tensor
        Standard deviation sigma of each output's noise, (O,).
    weights : Tensor or None
        w, how often each row counts, (N,).
    """
    own = noise.square().unsqueeze(-1).expand(-1, y.shape[0])
    own = own if weights is None else own / weights.clamp_min(1e-12)
    return _NegativeLogEvidence.apply(kernel + torch.diag_embed(own), y.T)  # pyright: ignore[reportReturnType]
