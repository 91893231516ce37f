"""Policies that are stacks of dense layers: multilayer perceptron and linear."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.dynamics.encoding import Geometry
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.stack import DenseStack
from dynapilco.policies.base import POLICIES, Policy

FIRST_GAIN, MIDDLE_GAIN, LAST_GAIN = 1.5, 1.2, 0.5


class DensePolicy(Policy):
    """Weights N(0, gain^2 / fan_in), biases zero; tanh between layers."""

    def __init__(self, geometry: Geometry, low: Tensor, high: Tensor, scale: Tensor, hidden: tuple[int, ...]) -> None:
        super().__init__(geometry, low, high, scale)
        self.widths = (self.inputs, *hidden, geometry.actions)
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        names = tuple(f"{kind}{i}" for i in range(len(pairs)) for kind in ("weight", "bias"))
        shapes = tuple(torch.Size(s) for a, b in pairs for s in ((a, b), (b,)))
        self.layout = ParameterLayout(names, shapes)

    def init(self, candidates: int, generator: torch.Generator) -> Tensor:
        """Fresh parameters (R, n)."""
        layers = len(self.widths) - 1
        named: dict[str, Tensor] = {}
        for i, (a, b) in enumerate(zip(self.widths[:-1], self.widths[1:], strict=True)):
            gain = LAST_GAIN if i == layers - 1 else FIRST_GAIN if i == 0 else MIDDLE_GAIN
            normal = torch.randn(candidates, a, b, generator=generator, device=generator.device)
            named[f"weight{i}"] = normal * (gain / a**0.5)
            named[f"bias{i}"] = torch.zeros(candidates, b, device=generator.device)
        return self.layout.join(named)

    def dense(self, params: Tensor) -> DenseStack:
        """Dense layers on features [x, sin, cos], G = R."""
        named = self.layout.split(params)
        layers = range(len(self.widths) - 1)
        weights = tuple(named[f"weight{i}"] for i in layers)
        biases = tuple(named[f"bias{i}"] for i in layers)
        return DenseStack(weights, biases, (None,) * (len(weights) - 1)).project_input(self.encoder)

    def raw(self, params: Tensor, features: Tensor) -> Tensor:
        """Raw actions (R, N, M)."""
        return self.dense(params)(features)


@POLICIES.register("MlpPolicy", "mlp")
class MlpPolicy(DensePolicy):
    """Multilayer perceptron with tanh units."""

    @dataclass(frozen=True)
    class Options:
        """Widths of the hidden layers."""

        hidden: tuple[int, ...] = (48, 48)

        def __post_init__(self) -> None:
            widths = self.hidden if isinstance(self.hidden, (list, tuple)) else None
            if not widths or not all(isinstance(h, int) and h >= 1 for h in widths):
                raise UserError(f"hidden={self.hidden!r}: expected a list of layer widths, each at least 1")

    def __init__(self, geometry: Geometry, low: Tensor, high: Tensor, scale: Tensor, options: Options) -> None:
        super().__init__(geometry, low, high, scale, tuple(options.hidden))


@POLICIES.register("LinearPolicy", "linear")
class LinearPolicy(DensePolicy):
    """Linear in the features, then squashed."""

    @dataclass(frozen=True)
    class Options:
        """No options."""

    def __init__(self, geometry: Geometry, low: Tensor, high: Tensor, scale: Tensor, options: Options) -> None:
        super().__init__(geometry, low, high, scale, ())
