"""Normal priors: one scale for all weights, or scaled by fan-in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors.base import Prior, register_prior
from dynapilco.inference.priors.partial import whole_of


class _ZeroMeanNormal(Prior):
    """N(0, diag(std^2)), std given by the subclass."""

    gaussian: ClassVar[bool] = True

    def log_prob(self, params: Tensor, layout: ParameterLayout) -> Tensor:
        """-1/2 sum (theta/std)^2 - sum log std - n/2 log 2 pi."""
        return diagonal_normal(self, params, layout)

    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors."""
        std = self.std(layout).to(generator.device)
        return std * torch.randn(size, layout.total, generator=generator, device=generator.device)


def diagonal_normal(prior: Prior, params: Tensor, layout: ParameterLayout) -> Tensor:
    """Log density, (S,), of params (S, n) under N(0, diag(prior.std(layout)^2)); the constants are kept."""
    half_precision, constant = _cached(prior, layout, params.device, params.dtype)
    return -(params.square() @ half_precision) - constant


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # cached: an inference tensor would fail in a later fit
def _cached(prior: Prior, layout: ParameterLayout, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, float]:
    std = prior.std(layout).to(device, dtype)
    return 0.5 / std.square(), float(std.double().log().sum()) + 0.5 * layout.total * math.log(2 * math.pi)


def _check_scales(prior: object, names: tuple[str, ...]) -> None:
    for name in names:
        if not 0 < getattr(prior, name) < math.inf:
            raise UserError(f"{name}={getattr(prior, name)!r}: a prior scale must be finite and above 0")


@register_prior("normal")
@dataclass(frozen=True)
class NormalPrior(_ZeroMeanNormal):
    """Every weight and bias ~ N(0, scale^2).

    Attributes
    ----------
    scale : float
        Above 0.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scales(self, ("scale",))

    def std(self, layout: ParameterLayout) -> Tensor:
        """``scale`` everywhere, (n,)."""
        return torch.full((layout.total,), self.scale)


@register_prior("fan_in_normal", "fan_in")
@dataclass(frozen=True)
class FanInNormal(_ZeroMeanNormal):
    """Independent normals: weights N(0, s^2 / fan_in), biases N(0, s^2).

    s is ``hidden_scale``, and ``output_scale`` for the last layer. An output scale of 2 says that the function moves
    over about two standard deviations of the (standardised) targets before data are seen.

    Attributes
    ----------
    hidden_scale : float
        Dimensionless, above 0.
    output_scale : float or tuple of float
        One for all outputs, or one for each.
    output_bias_scale : float or tuple of float or None
        s of the last layer's biases, one for all or one for each: small where targets are standardised, wide for
        logits. None takes ``output_scale``.
    """

    hidden_scale: float = 1.0
    output_scale: float | tuple[float, ...] = 2.0
    output_bias_scale: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_scales(self, ("hidden_scale",))
        for name in ("output_scale", "output_bias_scale"):
            value = getattr(self, name)
            if isinstance(value, list):  # as files hold it
                object.__setattr__(self, name, value := tuple(value))
            each = value if isinstance(value, tuple) else () if value is None else (value,)
            if value == () or not all(0 < scale < math.inf for scale in each):
                raise UserError(f"{name}={value!r}: a prior scale must be finite and above 0")

    def std(self, layout: ParameterLayout) -> Tensor:
        """Prior standard deviation of each parameter, shape (n,)."""
        last = whole_of(layout).names[-1].rpartition(".")[0]
        pieces = []
        for name, shape in zip(layout.names, layout.shapes, strict=True):
            scale = self.output_scale if name.rpartition(".")[0] == last else self.hidden_scale
            if name == f"{last}.bias" and self.output_bias_scale is not None:
                scale = self.output_bias_scale
            fan_in = shape[1:].numel() if len(shape) > 1 else 1
            if isinstance(scale, tuple):
                if len(scale) != shape[0]:
                    raise UserError(f"{scale!r}: expected a prior scale for each of {shape[0]} outputs")
                each = torch.tensor(scale) / fan_in**0.5
                pieces.append(each.repeat_interleave(shape.numel() // shape[0]))
            else:
                pieces.append(torch.full((shape.numel(),), scale / fan_in**0.5))
        return torch.cat(pieces)
