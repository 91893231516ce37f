"""Masks over units: hard ones, and relaxed ones that a rate can be learned through."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Rate = float | Tensor


def bernoulli_masks(
    rates: Sequence[Rate], widths: Sequence[int], lead: Sequence[int], like: Tensor, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Masks z / (1 - p) with z ~ Bernoulli(1 - p), one a site: their mean is 1.

    Parameters
    ----------
    rates : sequence of float or Tensor
        p of each site; a tensor broadcasts against ``(*lead, width)``.
    widths : sequence of int
    lead : sequence of int
    like : Tensor
        Gives device and dtype.
    generator : torch.Generator

    Returns
    -------
    tuple of Tensor
        (*lead, width) each.
    """
    masks = []
    for rate, width in zip(rates, widths, strict=True):
        keep = 1.0 - rate
        uniform = torch.rand(*lead, width, generator=generator, device=like.device)
        masks.append((uniform < keep).to(like.dtype) / keep)
    return tuple(masks)


def concrete_masks(
    logits: Sequence[Tensor],
    widths: Sequence[int],
    lead: Sequence[int],
    generator: torch.Generator,
    temperature: float = 0.1,
) -> tuple[Tensor, ...]:
    """Relaxed masks z / (1 - p), differentiable in the logits of p (Gal, Hron & Kendall 2017, section 3).

    1 - z = sigmoid((logit p + logit u) / t), u uniform: as t falls to 0, z becomes Bernoulli(1 - p).

    Parameters
    ----------
    logits : sequence of Tensor
        log p - log(1 - p) of each site, broadcast against ``(*lead, width)``.
    widths, lead : sequence of int
    generator : torch.Generator
    temperature : float
        t above 0.
    """
    masks = []
    for logit, width in zip(logits, widths, strict=True):
        uniform = torch.rand(*lead, width, generator=generator, device=logit.device, dtype=logit.dtype)
        tiny = torch.finfo(logit.dtype).eps
        noise = torch.logit(uniform, eps=tiny)
        # sigmoid(-a) = 1 - sigmoid(a), and 1 / (1 - p) = 1 + exp(logit p): exact where p is next to 0
        masks.append(torch.sigmoid(-(logit + noise) / temperature) * (1 + logit.exp()))
    return tuple(masks)
