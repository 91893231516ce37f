"""Damped adjoints: gradients that fade, and are bounded, on their way back through time.

Back-propagation through many steps of an unstable system multiplies Jacobians whose products grow exponentially; the
gradient of the expected return is then dominated by a few particles and says nothing (Parmas et al. 2018, "PIPPS";
Metz et al. 2021, "Gradients are not all you need"). Here the adjoint of each particle's state,

    g_t = dr_t/dx_t + (dx_{t+1}/dx_t)^T g_{t+1},

is replaced at each step by ``clip(decay * g_t)``, the norm taken in scaled coordinates. The forward rollout is
untouched; the gradient becomes a biased one of far smaller variance (compare generalised advantage estimation, where a
discount below one plays the same part).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Damping:
    """How adjoints are damped at each step.

    Attributes
    ----------
    decay : float or Tensor
        Multiplies the adjoint; 1 leaves it alone. A tensor (R,) holds one for each candidate, the first axis of states.
    limit : float
        Largest norm of a particle's adjoint with respect to the scaled state ``x / scale``; 0 sets none.
    scale : Tensor
        Typical size of each state column, (D,).
    """

    decay: float | Tensor
    limit: float
    scale: Tensor

    def __call__(self, adjoint: Tensor) -> Tensor:
        """Damp adjoints (..., D)."""
        decay = self.decay
        if isinstance(decay, Tensor):
            decay = decay.reshape(-1, *(1,) * (adjoint.dim() - 1))
        adjoint = adjoint * decay
        if self.limit == 0:
            return adjoint
        norm = (adjoint * self.scale).norm(dim=-1, keepdim=True)
        return torch.where(norm > self.limit, adjoint * (self.limit / norm), adjoint)


class _Damp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, damping: Damping) -> Tensor:
        ctx.damping = damping
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.damping(grads[0]), None


def damp(x: Tensor, damping: Damping | None) -> Tensor:
    """The states x themselves; their adjoint is damped on the way back."""
    return x if damping is None else _Damp.apply(x, damping)  # pyright: ignore[reportReturnType]
