"""What every score asks of its input before it counts anything."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dynapilco.core.errors import UserError

Reduction = Literal["mean", "none"]


def require_floats(**tensors: Tensor) -> None:
    """Raise a ``UserError`` that counts the NaN and infinite entries of the first bad tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UserError(f"{name} is {got}: expected a tensor of floating point numbers")
        if tensor.numel() == 0:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}: expected at least one entry")
        nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
        if nan or infinite:
            raise UserError(
                f"{name} has {nan} NaN and {infinite} infinite of {tensor.numel()} entries: expected finite numbers"
            )


def require_shape(name: str, tensor: Tensor, expected: torch.Size | tuple[int, ...], like: str) -> None:
    """Raise a ``UserError`` unless ``tensor`` has exactly the ``expected`` shape (no broadcasting)."""
    if tuple(tensor.shape) != tuple(expected):
        raise UserError(f"{name} has shape {tuple(tensor.shape)}: expected {tuple(expected)}, to match {like}")


def require_positive(name: str, tensor: Tensor) -> None:
    """Raise a ``UserError`` that counts the entries that are not greater than zero."""
    bad = int((tensor <= 0).sum())
    if bad:
        raise UserError(
            f"{name} has {bad} of {tensor.numel()} entries at or below zero (smallest {float(tensor.min()):g}): "
            "expected positive numbers"
        )


def require_unit_interval(name: str, tensor: Tensor, slack: float = 1e-5) -> None:
    """Raise a ``UserError`` unless all entries lie in [0, 1], up to rounding ``slack``."""
    bad = int(((tensor < -slack) | (tensor > 1 + slack)).sum())
    if bad:
        raise UserError(f"{name} has {bad} of {tensor.numel()} entries outside [0, 1]: expected probabilities")


def require_samples(samples: Tensor, y: Tensor, least: int = 1) -> None:
    """Check predictive samples (K, *y.shape) against targets ``y``."""
    require_floats(samples=samples, y=y)
    if samples.ndim != y.ndim + 1 or samples.shape[0] < least:
        raise UserError(
            f"samples has shape {tuple(samples.shape)}: expected (K, *{tuple(y.shape)}), y's shape after at least "
            f"{least} samples"
        )
    require_shape("samples[0]", samples[0], y.shape, "y")


def require_mixture(mean: Tensor, std: Tensor, y: Tensor) -> None:
    """Check a mixture of S Gaussians, mean and std (S, *y.shape), against targets ``y``."""
    require_floats(mean=mean, std=std, y=y)
    require_shape("std", std, mean.shape, "mean")
    if mean.ndim != y.ndim + 1:
        raise UserError(f"mean has shape {tuple(mean.shape)}: expected (S, *{tuple(y.shape)}), S Gaussians for each y")
    require_shape("mean[0]", mean[0], y.shape, "y")
    require_positive("std", std)


def mean_nll(log_prob: Tensor, count: int) -> Tensor:
    """Average -log p of ``count`` examples; -inf is a fair verdict and passes, NaN and a wrong shape do not."""
    require_shape("predictive.log_prob(y)", log_prob, (count,), "one joint log density for each example")
    nan = int(log_prob.isnan().sum())
    if nan:
        raise UserError(f"predictive.log_prob(y) has {nan} NaN of {count} entries: expected numbers")
    return -log_prob.mean()


def require_reduction(reduction: str) -> None:
    """Raise a ``UserError`` unless ``reduction`` is "mean" or "none"."""
    if reduction not in ("mean", "none"):
        raise UserError(f"reduction is {reduction!r}: expected 'mean' or 'none'")


def reduce(values: Tensor, reduction: str) -> Tensor:
    """Average ``values`` over all entries, or return them as they are."""
    return values.mean() if reduction == "mean" else values
