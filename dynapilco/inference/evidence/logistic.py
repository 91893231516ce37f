"""The log marginal likelihood of yes-or-no targets under a Gaussian process of logits, by Laplace's approximation.

With f ~ N(0, K), y_i ~ Bernoulli(sigmoid(f_i)), the mode f = K a of the posterior, a = y - sigmoid(f), and
W = diag(p (1 - p)), p = sigmoid(f) (row weights multiply a and W):

    -log p(y) ~= 1/2 a^T f - log p(y | f) + 1/2 log |B|,                B = I + W^1/2 K W^1/2
    d / dK     = -1/2 a a^T + 1/2 R - (I - R K) s a^T,                  R = W^1/2 B^-1 W^1/2
    s_i        = -1/2 [(K^-1 + W)^-1]_ii dW_ii / df_i                   (how the mode moves)

(Williams & Barber 1998; Rasmussen & Williams 2006, algorithms 3.1 and 5.1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dynapilco.inference.evidence import cholesky

MOST_ITERATIONS = 100
HALVINGS = 20
TOLERANCE = 1e-6
"""Of the objective, in nats."""


class _NegativeLogLaplace(torch.autograd.Function):
    """Forward finds the mode; backward is in closed form, the movement of the mode included."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, y: Tensor, weights: Tensor, mode: Tensor) -> Tensor:
        a = _mode(kernel, y, weights, mode)
        f = kernel @ a
        lower, root = _curvature(kernel, f, weights)
        mode.copy_(a)
        ctx.save_for_backward(kernel, lower, root, a, f, weights)
        return 0.5 * a @ f - _log_likelihood(f, y, weights) + lower.diagonal().log().sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        kernel, lower, root, a, f, weights = ctx.saved_tensors
        inner = root.unsqueeze(1) * torch.cholesky_inverse(lower) * root  # R
        variance = kernel.diagonal() - (kernel * (inner @ kernel)).sum(0)
        p = f.sigmoid()
        s = -0.5 * variance * weights * p * (1 - p) * (1 - 2 * p)
        moved = torch.outer(s - inner @ (kernel @ s), a)
        gradient = 0.5 * (inner - torch.outer(a, a)) - 0.5 * (moved + moved.T)
        return grads[0] * gradient, None, None, None


def _log_likelihood(f: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    return (weights * (y * f - softplus(f))).sum()


def _curvature(kernel: Tensor, f: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor of B, and the diagonal of W^1/2."""
    p = f.sigmoid()
    root = (weights * p * (1 - p)).sqrt()
    b = root.unsqueeze(1) * kernel * root
    b.diagonal().add_(1.0)
    return cholesky.factor(b), root


def _mode(kernel: Tensor, y: Tensor, weights: Tensor, a: Tensor) -> Tensor:
    """Newton's method with halved steps, from a; the objective is concave in f."""

    def objective(a: Tensor, f: Tensor) -> Tensor:
        return _log_likelihood(f, y, weights) - 0.5 * a @ f

    f = kernel @ a
    value = objective(a, f)
    if not bool(value > objective(torch.zeros_like(a), torch.zeros_like(f))):  # a start of other data, or NaN
        a, f = torch.zeros_like(a), torch.zeros_like(f)
        value = objective(a, f)
    for _ in range(MOST_ITERATIONS):
        lower, root = _curvature(kernel, f, weights)
        b = root.square() * f + weights * (y - f.sigmoid())
        step = b - root * torch.cholesky_solve((root * (kernel @ b)).unsqueeze(1), lower).squeeze(1) - a
        across, size = kernel @ step, 1.0
        for _ in range(HALVINGS):
            new = objective(a + size * step, f + size * across)
            if bool(new >= value):
                break
            size /= 2
        gain = float(new - value)
        if not gain > 0:
            break
        a, f, value = a + size * step, f + size * across, new
        if gain < TOLERANCE:
            break
    return a


def negative_log_laplace(kernels: Tensor, y: Tensor, weights: Tensor | None, modes: Tensor) -> Tensor:
    """-log p(y) of each binary column, (C,), nats.

    Parameters
    ----------
    kernels : Tensor
        Covariance of the logits of each column, (C, N, N), float64.
    y : Tensor
        0 and 1, (N, C).
    weights : Tensor or None
        How often each row counts, (N,).
    modes : Tensor
        Where Newton's method starts, and afterwards where it ended: a of each column, (C, N). Changed in place.
    """
    each = y.new_ones(y.shape[0]) if weights is None else weights
    values = [_NegativeLogLaplace.apply(k, y[:, c], each, modes[c]) for c, k in enumerate(kernels)]
    return torch.stack(values)  # pyright: ignore[reportArgumentType, reportCallIssue]
