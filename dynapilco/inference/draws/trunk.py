"""Draws that share everything but the last layer: the trunk is evaluated once for all S heads."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dynapilco.core.errors import UserError
from dynapilco.inference.draws.wrapped import WrappedDraw
from dynapilco.inference.likelihoods import Likelihood
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.stack import DenseStack

ROUNDING = 64.0
"""Units of the last place, of the sum of the terms' sizes, that two ways to add them up may differ by."""


@dataclass(frozen=True, kw_only=True)
class TrunkDraw(WrappedDraw):
    """S functions phi(x) @ weight_s.T + bias_s over one trunk phi.

    Attributes
    ----------
    network : StackedNetwork
    layer : str
        Name of the last layer, an ``nn.Linear``.
    trunk : nn.Module
        The module without it (``trunk_of``).
    params : Tensor
        Full parameters (1, n_full); those of the last layer are not used.
    weight : Tensor
        (S, out, width).
    bias : Tensor or None
        (S, out).
    """

    network: StackedNetwork
    layer: str
    trunk: nn.Module
    params: Tensor
    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate all functions on one batch, the trunk once: x (B, *in) -> (S, B, *out)."""
        return replace(self, size=1).each(x.unsqueeze(0))

    def evaluate(self, x: Tensor) -> Tensor:
        """The functions themselves: x (S, P, *in), or (1, P, *in) for all of them, -> (S, P, *out)."""
        features = trunk_features(self.network, self.layer, self.trunk, self.params, x.flatten(0, 1))
        lead, inner = x.shape[:2], features.shape[1:-1]
        f = features.reshape(lead[0], -1, features.shape[-1]) @ self.weight.transpose(-1, -2)
        f = f if self.bias is None else f + self.bias.unsqueeze(1)
        return f.reshape(f.shape[0], lead[1], *inner, f.shape[-1])

    def dense(self, particles: int) -> DenseStack | None:
        """Explicit layers for a plain stack: those of the trunk are repeated without copies (stride 0)."""
        if self.network.dense_plan is None or self.bias is None:
            return None
        stack = self.network.dense(self.params)
        heads = self.weight.transpose(-1, -2), self.bias
        single = len(stack.weights) == 1
        if single:
            stack = replace(stack, weights=(heads[0],), biases=(heads[1],))
        stack = stack if self.before is None else stack.fold_input(*self.before)
        stack = stack if self.projection is None else stack.project_input(self.projection)
        if not single:
            weights, biases = ([t.expand(len(heads[0]), *t.shape[1:]) for t in ts[:-1]] for ts in _layers(stack))
            stack = replace(stack, weights=(*weights, heads[0]), biases=(*biases, heads[1]))
        return stack if self.after is None else stack.fold_output(*self.after)


def trunk_draw(
    network: StackedNetwork, layer: str, params: Tensor, heads: dict[str, Tensor], noise: Tensor, likelihood: Likelihood
) -> TrunkDraw:
    """The draw of S heads on the trunk of ``params``.

    Parameters
    ----------
    params : Tensor
        Full parameters (1, n_full).
    heads : dict
        Tensors (S, *shape) by full parameter name (``"4.weight"``); parameters of the layer that are not named are the
        same in all functions.
    noise : Tensor
        Constrained noise parameters, (S, k).
    likelihood : Likelihood
    """
    size = noise.shape[0]
    weight, bias = (
        t if t is None else heads[name].detach() if name in heads else t.expand(size, *t.shape)
        for name, t in _head(network, layer, params).items()
    )
    assert weight is not None
    return TrunkDraw(
        size, noise.detach(), likelihood, network=network, layer=layer, trunk=trunk_of(network.module, layer),
        params=params.detach(), weight=weight, bias=bias,
    )  # fmt: skip


def trunk_of(module: nn.Module, layer: str) -> nn.Module:
    """``module`` with its layer ``layer`` replaced by the identity; the parameters are shared with the original."""
    if not layer:
        return nn.Identity()
    shared = {id(t): t for t in [*module.parameters(), *module.buffers()]}
    twin = copy.deepcopy(module, shared)
    parent, _, name = layer.rpartition(".")
    setattr(twin.get_submodule(parent), name, nn.Identity())
    return twin


def last_layer(module: nn.Module) -> str | None:
    """Name of the last ``nn.Linear`` in the module's order, or None."""
    names = [name for name, part in module.named_modules() if type(part) is nn.Linear]
    return names[-1] if names else None


def last_layer_refusal(network: StackedNetwork) -> str | None:
    """Why the last layer of a network cannot be told apart from its trunk, or None."""
    module, layer = network.module, last_layer(network.module)
    if layer is None:
        return f"{type(module).__name__} has no nn.Linear as its last layer"
    uses = Counter(id(part) for _, part in module.named_modules(remove_duplicate=False))
    if uses[id(module.get_submodule(layer))] > 1:
        return f"the last layer {layer!r} is used more than once"
    holders = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    tied = [n for n, p in module.named_parameters(remove_duplicate=False) if _belongs(n, layer) and holders[id(p)] > 1]
    if tied:
        return f"the last layer's {', '.join(tied)} is tied to another parameter"
    if not any(_belongs(name, layer) for name in network.layout.names):
        return f"all parameters of the last layer {layer!r} are excluded"
    return None


@torch.no_grad()
def check_last_layer(network: StackedNetwork, params: Tensor, x: Tensor) -> None:
    """Raise ``UserError`` unless the network's output is that of its last Linear layer.

    Parameters
    ----------
    params : Tensor
        Full parameters (1, n_full).
    x : Tensor
        A few rows, (B, *in).
    """
    layer = last_layer(network.module)
    assert layer is not None
    truth, why = network.shared(params, x)[0], ""
    try:
        inner = trunk_features(network, layer, trunk_of(network.module, layer), params, x)
        weight, bias = _head(network, layer, params).values()
        assert weight is not None
        split = nn.functional.linear(inner, weight, bias)
        same = split.shape == truth.shape
        if same:  # large terms that cancel leave the rounding of their size
            terms = nn.functional.linear(inner.abs(), weight.abs(), None if bias is None else bias.abs())
            allowed = 1e-4 + 1e-3 * truth.abs() + ROUNDING * torch.finfo(terms.dtype).eps * terms
            same = bool(((split - truth).abs() <= allowed).all())
    except (AttributeError, RuntimeError) as error:  # a forward that reads the layer's weights, or feeds its output on
        same, why = False, f" ({error})"
    if not same:
        raise UserError(
            f"the network's output is not that of its last Linear layer {layer!r}{why}: define the output layer last "
            "and return what it returns, or use subset='all'"
        )


def trunk_features(network: StackedNetwork, layer: str, trunk: nn.Module, params: Tensor, rows: Tensor) -> Tensor:
    """What the last layer sees at params (1, n_full): rows (B, *in) -> (B, *inner, width)."""
    named = {name: p[0] for name, p in network.full.split(params).items() if not _belongs(name, layer)}
    return functional_call(trunk, named, (rows,))


def _head(network: StackedNetwork, layer: str, params: Tensor) -> dict[str, Tensor | None]:
    """Weight and bias (or None) of the last layer at params (1, n_full), by their full names."""
    own, named = network.module.get_submodule(layer), network.full.split(params)
    found: dict[str, Tensor | None] = {}
    for kind in ("weight", "bias"):
        name, frozen = f"{layer}.{kind}".lstrip("."), getattr(own, kind)
        found[name] = named[name][0].detach() if name in named else frozen  # without gradient: no part of the vector
    return found


def _layers(stack: DenseStack) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return stack.weights, stack.biases


def _belongs(name: str, layer: str) -> bool:
    return name.rpartition(".")[0] == layer
