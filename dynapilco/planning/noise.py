"""Coloured noise along plans."""

from __future__ import annotations

import torch
from torch import Tensor


def coloured(count: int, horizon: int, columns: int, exponent: float, generator: torch.Generator) -> Tensor:
    """Standard normal numbers (count, horizon, columns) whose power along the plan falls as 1 / f^exponent.

    White for exponent 0 (Timmer & Koenig 1995; for planning: Pinneri et al. 2020). Each plan's expected variance is 1.
    """
    white = torch.randn(count, columns, horizon, generator=generator, device=generator.device)
    if exponent == 0 or horizon < 3:
        return white.transpose(1, 2)
    frequency = torch.fft.rfftfreq(horizon, device=generator.device)
    frequency[0] = frequency[1]  # the mean varies as the slowest wave does
    weight = frequency ** (-exponent / 2)
    waves = torch.fft.rfft(white) * weight
    twice = torch.full_like(weight, 2.0)
    twice[0] = 1.0
    if horizon % 2 == 0:
        twice[-1] = 1.0
    std = (twice * weight**2).sum().div(horizon).sqrt()
    return (torch.fft.irfft(waves, n=horizon) / std).transpose(1, 2)
