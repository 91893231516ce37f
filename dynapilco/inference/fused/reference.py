"""Stacked multilayer perceptrons in plain torch: what the kernel is checked against and falls back to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dynapilco.inference.stack import ACTIVATIONS

Masks = Sequence[Tensor | None]


def parameter_count(widths: Sequence[int]) -> int:
    """n, the numbers of one weight set."""
    return sum(a * b + b for a, b in pairwise(widths))


def dense_reference(
    flat: Tensor, x: Tensor, widths: Sequence[int], activation: str, masks: Masks | None = None
) -> Tensor:
    """Evaluate weight sets (S, n) on x (B, in) or (S, B, in): (S, B, out), differentiable to any order.

    The arguments are those of ``dense_apply``, in any dtype and on any device.
    """
    act, at, last = ACTIVATIONS[activation], 0, len(widths) - 2
    h = x if x.dim() == 3 else x.expand(flat.shape[0], *x.shape)
    for layer, (a, b) in enumerate(pairwise(widths)):
        weight = flat[:, at : at + a * b].unflatten(1, (b, a))
        bias = flat[:, at + a * b : at + a * b + b]
        h = torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))
        at += a * b + b
        if layer < last:
            h = act(h)
            mask = None if masks is None else masks[layer]
            h = h if mask is None else h * mask
    return h
