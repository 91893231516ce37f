"""Draws of a linearised network: f(x; mu) + J(x) delta_s, linear in the weights and not in x."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dynapilco.inference.draws.plain import plain_kernels
from dynapilco.inference.draws.wrapped import WrappedDraw
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.stack import ACTIVATIONS

SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tanh": lambda z, a: 1 - a * a,
    "relu": lambda z, a: (z > 0).to(z.dtype),
    "silu": lambda z, a: _silu_slope(z),
    "identity": lambda z, a: torch.ones_like(z),
}
"""Derivatives of ``ACTIVATIONS`` from the input z and the value a."""


@dataclass(frozen=True, kw_only=True)
class LinearisedDraw(WrappedDraw):
    """S functions f(x; centre) + J(x) tangent_s, J the Jacobian in the weights at the centre.

    Plain stacks run as batched matrix products: one forward pass with shared weights, and a tangent pass for each
    function. Other modules run by ``torch.func.jvp`` under ``vmap``, recurrent ones in a loop. No explicit dense form
    exists: a tangent multiplies activations with slopes of activations.

    Attributes
    ----------
    network : StackedNetwork
    centre : Tensor
        Full parameters (1, n_full), or (S, n_full) where the functions differ in it.
    tangents : Tensor
        (S, n_full).
    """

    network: StackedNetwork
    centre: Tensor
    tangents: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate all functions on one batch: x (B, *in) -> (S, B, *out)."""
        return replace(self, size=1).each(x.unsqueeze(0))  # a single forward pass, where they share the centre

    def evaluate(self, x: Tensor) -> Tensor:
        """The functions themselves: x (S, P, *in), or (1, P, *in) for all of them, -> (S, P, *out)."""
        if self.network.dense_plan is not None:
            return self._dense(x)
        with plain_kernels(self.network.module):
            return self._vmap(x) if self.network.engine == "vmap" else self._loop(x)

    def _dense(self, x: Tensor) -> Tensor:
        base, move = self.network.dense(self.centre), self.network.dense(self.tangents)
        act, slope = ACTIVATIONS[base.activation], SLOPES[base.activation]
        last = len(base.weights) - 1
        h, dh = x, None
        for layer in range(last + 1):
            weight, bias = base.weights[layer], base.biases[layer].unsqueeze(1)
            weight = weight[0] if weight.shape[0] == 1 else weight  # one product for all functions
            z = h @ weight + bias
            dz = h @ move.weights[layer] + move.biases[layer].unsqueeze(1)
            dz = dz if dh is None else dz + dh @ weight
            if layer < last:
                h = act(z)
                dh = slope(z, h) * dz
            else:
                h, dh = z, dz
        assert dh is not None
        return h + dh

    def _vmap(self, x: Tensor) -> Tensor:
        own = self.centre.shape[0] > 1
        named = {name: v if own else v[0] for name, v in self.network.full.split(self.centre).items()}
        axes = 0 if own else None, 0, 0 if x.shape[0] > 1 else None
        tangents = self.network.full.split(self.tangents)
        return torch.vmap(self._push, in_dims=axes)(named, tangents, x if x.shape[0] > 1 else x[0])

    def _loop(self, x: Tensor) -> Tensor:
        split, size = self.network.full.split, self.tangents.shape[0]
        centre, x = self.centre.expand(size, -1), x.expand(size, *x.shape[1:])
        return torch.stack([self._push(split(centre[s]), split(self.tangents[s]), x[s]) for s in range(size)])

    def _push(self, centre: dict[str, Tensor], tangent: dict[str, Tensor], x: Tensor) -> Tensor:
        pair = torch.func.jvp(lambda named: self.network.call(named, x), (centre,), (tangent,))
        return pair[0] + pair[1]


def _silu_slope(z: Tensor) -> Tensor:
    gate = torch.sigmoid(z)
    return gate * (1 + z * (1 - gate))
