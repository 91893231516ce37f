"""The last layer of each member for a yes-or-no target: Bayesian logistic regression on its features.

Given the hidden layers, the posterior of the weights v of a logit is not normal, but it has one mode. Laplace's
approximation around it is sampled once for each member (Spiegelhalter & Lauritzen 1990; MacKay 1992): with v = V^1/2 u,

    u ~ N(argmin sum_i w_i (softplus(f_i) - y_i f_i) + |u|^2 / 2,  T (V^1/2 Phi^T W Phi V^1/2 + I)^-1)

where W = diag(w p (1 - p)) at the mode. Directions that no row sees keep the spread of the prior.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dynapilco.inference.evidence import cholesky
from dynapilco.inference.evidence.last_layer import LastLayer
from dynapilco.inference.evidence.rows import Rows

MOST_ITERATIONS = 50
HALVINGS = 20
TOLERANCE = 1e-3
"""Of the objective, in nats: a sample lies about half a nat a weight away from the mode."""
HELD_NUMBERS = 20_000_000
"""Numbers in the features that are held at once: some members after the others."""


@torch.no_grad()
def sampled_logits(
    layer: LastLayer, rows: Rows, full: Tensor, column: int, std: Tensor, heat: float, generator: torch.Generator
) -> Tensor:
    """Sampled weights of one logit, (S, H), float64.

    Parameters
    ----------
    layer : LastLayer
    rows : Rows
        Column ``column`` of y is 0 or 1.
    full : Tensor
        Full parameters of the members, (S, n_full).
    column : int
    std : Tensor
        Prior standard deviations of the weights, (H,).
    heat : float
        Root of the temperature.
    generator : torch.Generator
    """
    noise = torch.randn(len(full), len(std), generator=generator, device=full.device, dtype=full.dtype)
    block = max(1, HELD_NUMBERS // (len(std) * len(rows.y)))
    parts = [
        _sampled(_Problem(layer, rows, full[i : i + block], column, std), heat * noise[i : i + block].double())
        for i in range(0, len(full), block)
    ]
    return torch.cat(parts) * std


def _sampled(problem: _Problem, noise: Tensor) -> Tensor:
    """Weights u (S, H): the modes, by Newton's method, and Laplace's spread around them."""
    u = torch.zeros_like(noise)
    value = problem.value(u)
    for _ in range(MOST_ITERATIONS):
        gradient, hessian = problem.derivatives(u)
        lower = cholesky.factor(hessian)
        u, new = _descend(problem, u, torch.cholesky_solve(gradient.unsqueeze(-1), lower).squeeze(-1), value)
        gain, value = value - new, new
        if not bool((gain > TOLERANCE).any()):
            break
    return u + torch.linalg.solve_triangular(lower.transpose(-1, -2), noise.unsqueeze(-1), upper=True).squeeze(-1)


def _descend(problem: _Problem, u: Tensor, step: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """U (S, H) less a step, halved where it does not lower a member's objective; and the objectives, (S,)."""
    size = torch.ones_like(value)
    for _ in range(HALVINGS):
        new = problem.value(u - size.unsqueeze(-1) * step)
        worse = ~(new <= value)
        if not bool(worse.any()):
            return u - size.unsqueeze(-1) * step, new
        size = torch.where(worse, size / 2, size)
    return u - torch.where(worse, 0.0, size).unsqueeze(-1) * step, torch.where(worse, value, new)


class _Problem:
    """Penalised logistic regressions of S members on their features, in the numbers of the model; sums in float64."""

    def __init__(self, layer: LastLayer, rows: Rows, full: Tensor, column: int, std: Tensor) -> None:
        features = [(features * std).to(full.dtype) for features, _ in layer.chunks(full, rows.x)]
        self.features, self.y = torch.cat(features, 1), rows.y[..., column].to(full.dtype)
        offset = layer.offset(full)
        self.offset = offset[:, min(column, offset.shape[-1] - 1), None]
        self.weights = torch.ones_like(self.y) if rows.weights is None else rows.weights.to(full.dtype)

    def value(self, u: Tensor) -> Tensor:
        """(S,)."""
        f = self._logits(u)
        return 0.5 * u.square().sum(-1) + (self.weights * (softplus(f) - self.y * f)).double().sum(-1)

    def derivatives(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient (S, H) and Hessian (S, H, H)."""
        p = self._logits(u).sigmoid()
        residual = (self.weights * (p - self.y)).unsqueeze(1)
        rooted = self.features * (self.weights * p * (1 - p)).sqrt().unsqueeze(-1)
        hessian = (rooted.transpose(1, 2) @ rooted).double()
        hessian.diagonal(dim1=-2, dim2=-1).add_(1.0)
        return u + (residual @ self.features).squeeze(1).double(), hessian

    def _logits(self, u: Tensor) -> Tensor:
        return (self.features @ u.to(self.features.dtype).unsqueeze(-1)).squeeze(-1) + self.offset
