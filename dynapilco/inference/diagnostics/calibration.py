"""Whether predictive distributions over real targets say the truth about their own spread: PIT, coverage, calibration.

Shapes as in ``regression.py``. The probability integral transform (PIT) of a target is its predictive cdf value. Over
targets that the predictive describes rightly it is uniform on [0, 1]; everything else here is read off from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics.checks import (
    Reduction,
    reduce,
    require_floats,
    require_mixture,
    require_reduction,
    require_samples,
    require_shape,
    require_unit_interval,
)

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Default probability levels: 0.05, 0.10, ..., 0.95."""


def _position(like: Tensor, generator: torch.Generator | None) -> Tensor | float:
    """Where to stand inside each jump of the cdf: uniform, or its middle without a generator."""
    if generator is None:
        return 0.5
    draws = torch.rand(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return draws.to(like.device)


def pit(samples: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Probability integral transform of targets under predictive samples.

    With n samples below y and t equal to it, the value is (n + V (t + 1)) / (K + 1). With V uniform (a generator
    given) it is *exactly* uniform for any K where y and the samples are exchangeable, ties and discrete targets
    included (the randomised PIT of Smith 1985; Czado et al. 2009, applied to the rank of y among K + 1 values).
    Without a generator V = 1/2: repeatable, and on a grid of 1/(K + 1) where nothing ties.

    Parameters
    ----------
    samples : Tensor, shape (K, B, out)
    y : Tensor, shape (B, out)
    generator : torch.Generator, optional
        Randomises the value; needed for discrete targets.

    Returns
    -------
    Tensor, shape (B, out), in (0, 1)
    """
    require_samples(samples, y)
    below, equal = (samples < y).sum(0).to(y.dtype), (samples == y).sum(0).to(y.dtype)
    return (below + _position(y, generator) * (equal + 1)) / (samples.shape[0] + 1)


def pit_from_cdf(cdf: Tensor, cdf_before: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Probability integral transform from cdf values.

    Parameters
    ----------
    cdf : Tensor, any shape
        F(y), the predictive probability of a value at or below the target.
    cdf_before : Tensor, shape of ``cdf``, optional
        F(y-), the probability of a value strictly below it; for distributions with atoms, e.g. counts.
    generator : torch.Generator, optional
        With ``cdf_before``: the value is F(y-) + V (F(y) - F(y-)) with V uniform (Czado et al. 2009);
        without a generator V = 1/2.

    Returns
    -------
    Tensor, shape of ``cdf``, in [0, 1]
    """
    require_floats(cdf=cdf)
    require_unit_interval("cdf", cdf)
    if cdf_before is None:
        return cdf.clamp(0, 1)
    require_floats(cdf_before=cdf_before)
    require_unit_interval("cdf_before", cdf_before)
    require_shape("cdf_before", cdf_before, cdf.shape, "cdf")
    above = int((cdf_before > cdf).sum())
    if above:
        raise UserError(f"cdf_before exceeds cdf in {above} of {cdf.numel()} entries: a cdf does not fall")
    return (cdf_before + _position(cdf, generator) * (cdf - cdf_before)).clamp(0, 1)


def cdf_gaussian_mixture(mean: Tensor, std: Tensor, y: Tensor) -> Tensor:
    """Cdf values (B, out) of targets y (B, out) under equally weighted mixtures, mean and std (S, B, out)."""
    require_mixture(mean, std, y)
    return 0.5 * torch.erfc((mean - y) / (std * math.sqrt(2))).mean(0)


def interval_coverage(low: Tensor, high: Tensor, y: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Fraction of targets inside the closed intervals [low, high].

    Parameters
    ----------
    low, high, y : Tensor, all of one shape

    Returns
    -------
    Tensor
        Scalar in [0, 1]; with ``reduction="none"``, 1 or 0 for every target.
    """
    require_reduction(reduction)
    require_floats(low=low, high=high, y=y)
    require_shape("low", low, y.shape, "y")
    require_shape("high", high, y.shape, "y")
    crossed = int((low > high).sum())
    if crossed:
        raise UserError(f"low exceeds high in {crossed} of {y.numel()} intervals: expected low <= high")
    return reduce(((low <= y) & (y <= high)).to(y.dtype), reduction)


def _as_columns(values: Tensor) -> Tensor:
    require_floats(pit=values)
    require_unit_interval("pit", values)
    return values.reshape(values.shape[0] if values.ndim else 1, -1)


def _as_levels(levels: Sequence[float] | Tensor, like: Tensor) -> Tensor:
    tensor = torch.as_tensor(levels, dtype=like.dtype, device=like.device)
    if tensor.ndim != 1 or tensor.numel() == 0 or not bool(((tensor > 0) & (tensor < 1)).all()):
        raise UserError(f"levels is {tensor.tolist()}: expected a list of numbers between 0 and 1")
    return tensor


def coverage_curve(pit: Tensor, levels: Sequence[float] | Tensor = LEVELS) -> Tensor:
    """Empirical coverage of the central predictive intervals, for each level and output.

    A target lies in the central interval of level p exactly when its PIT is within p/2 of 1/2.

    Parameters
    ----------
    pit : Tensor, shape (B, out) or (B,)
    levels : sequence of L floats in (0, 1)

    Returns
    -------
    Tensor, shape (L, out)
    """
    columns = _as_columns(pit)
    half = _as_levels(levels, columns) / 2
    return ((columns - 0.5).abs() <= half[:, None, None]).to(columns.dtype).mean(1)


def quantile_curve(pit: Tensor, levels: Sequence[float] | Tensor = LEVELS) -> Tensor:
    """Fraction of targets below the predictive quantile of each level: (L, out), equal to ``levels`` if calibrated.

    Source: Kuleshov et al. (2018). Parameters as in :func:`coverage_curve`.
    """
    columns = _as_columns(pit)
    return (columns <= _as_levels(levels, columns)[:, None, None]).to(columns.dtype).mean(1)


def calibration_error(
    pit: Tensor, levels: Sequence[float] | Tensor = LEVELS, weights: Sequence[float] | Tensor | None = None
) -> Tensor:
    r"""Calibration error of Kuleshov et al. (2018): :math:`\sum_j w_j (p_j - \hat p_j)^2`.

    Here :math:`\hat p_j` is the fraction of targets whose PIT is at most the level :math:`p_j`, found for each output
    apart (so that errors of opposite sign do not cancel) and the error then averaged over outputs. Zero is
    calibrated, 0.25 is near the worst. Finite data give about :math:`\overline{p(1 - p)}/B` even if calibrated.

    Parameters
    ----------
    pit : Tensor, shape (B, out) or (B,)
    levels : sequence of L floats in (0, 1)
    weights : sequence of L floats, optional
        Default 1/L each, so that the number of levels does not matter; pass ones for the plain sum of the paper.

    Returns
    -------
    Tensor
        Scalar.
    """
    observed = quantile_curve(pit, levels)
    expected = _as_levels(levels, observed)
    if weights is None:
        weights = torch.full_like(expected, 1 / expected.numel())
    weights = torch.as_tensor(weights, dtype=observed.dtype, device=observed.device)
    require_shape("weights", weights, expected.shape, "levels")
    return (weights[:, None] * (observed - expected[:, None]).square()).sum(0).mean()
