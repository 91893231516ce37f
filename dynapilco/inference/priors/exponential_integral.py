"""The scaled exponential integral e^u E1(u), u > 0, with derivatives of any order."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

EULER_GAMMA = 0.57721566490153286
BORDER = 2.0
"""Power series below, continued fraction above."""
SERIES_TERMS = 22
FRACTION_DEPTH = 25


def log_scaled_e1(u: Tensor) -> Tensor:
    """log(e^u E1(u)), elementwise, where E1(u) = int_u^inf e^-t / t dt.

    Accurate to 1e-9 for u from 1e-30 to 1e10, and so are the first two derivatives. Computed in float64; dtype and
    shape are those of ``u``.

    Parameters
    ----------
    u : Tensor
        Above 0.
    """
    wide = u.double()
    tail: Any = _Tail.apply(wide)
    return -(wide + 1 - tail).log().to(u.dtype)


class _Tail(torch.autograd.Function):
    """c(u) in e^u E1(u) = 1 / (u + 1 - c(u)); it tends to 1 for u -> 0 and to 1 / u for u -> infinity.

    From (e^u E1)' = e^u E1 - 1/u follows c' = 1 - (1 - c) (u + 1 - c) / u. Derivatives of log(e^u E1) taken by way of
    c lose no digits for large u, where e^u E1 - 1/u cancels.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return torch.where(u < BORDER, _series(u.clamp_max(BORDER)), _fraction(u.clamp_min(BORDER)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * _slope(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return tangents[0] * _slope(*ctx.saved_tensors)


def _slope(u: Tensor, c: Tensor) -> Tensor:
    """c'(u)."""
    return 1 - (1 - c) * (u + 1 - c) / u


def _series(u: Tensor) -> Tensor:
    """Of E1(u) = -gamma - log u - sum_k (-u)^k / (k k!) (Abramowitz and Stegun 5.1.11)."""
    total = torch.zeros_like(u)
    for k in range(SERIES_TERMS, 0, -1):
        total = (total - (-1) ** k / (k * math.factorial(k))) * u
    scaled = u.exp() * (total - u.log() - EULER_GAMMA)
    return u + 1 - scaled.reciprocal()


def _fraction(u: Tensor) -> Tensor:
    """Of e^u E1(u) = 1 / (u + 1 - 1 / (u + 3 - 4 / (u + 5 - 9 / ...))) (Abramowitz and Stegun 5.1.22, contracted)."""
    tail = torch.zeros_like(u)
    for k in range(FRACTION_DEPTH, 0, -1):
        tail = k * k / (u + (2 * k + 1) - tail)
    return tail
