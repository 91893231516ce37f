"""One user network, S parameter vectors: the deterministic function that every method is Bayesian about."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dynapilco.core.errors import UserError
from dynapilco.inference import fused
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.modules import reinitialised, skeleton_of, split_names
from dynapilco.inference.stack import DenseStack

_ACTIVATION_MODULES: dict[type[nn.Module], str] = {
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    nn.Identity: "identity",
}
ACTIVATION_LAYERS = {name: module for module, name in _ACTIVATION_MODULES.items()}


def mlp(inputs: int, outputs: int, hidden: Sequence[int] = (64, 64), activation: str = "tanh") -> nn.Sequential:
    """Build a multilayer perceptron as a plain ``nn.Sequential``.

    Parameters
    ----------
    inputs, outputs : int
        Widths of the first and last layer.
    hidden : sequence of int
        Widths of the hidden layers.
    activation : str
        ``"tanh"``, ``"relu"``, ``"silu"`` or ``"identity"``.

    Raises
    ------
    UserError
        For an unknown activation or a width below 1.
    """
    if activation not in ACTIVATION_LAYERS:
        raise UserError(f"activation={activation!r}: expected one of {', '.join(ACTIVATION_LAYERS)}")
    widths = [inputs, *hidden, outputs]
    if min(widths) < 1:
        raise UserError(f"hidden={tuple(hidden)!r}: every layer width must be at least 1, got widths {widths}")
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(a, b))
        if i < len(hidden):
            layers.append(ACTIVATION_LAYERS[activation]())
    return nn.Sequential(*layers)


ENGINES = ("auto", "dense", "vmap", "loop")


class StackedNetwork:
    """Evaluates one ``nn.Module`` with S flat parameter vectors at once.

    The module is copied and serves as a skeleton: it is never trained or changed. A plain stack of ``nn.Linear`` layers
    with one kind of activation runs as batched matrix products; any other module runs under ``torch.func.vmap``, and
    what cannot run there (recurrent layers) in a loop.

    Parameters
    ----------
    module : nn.Module
        A module with trainable parameters. Its dropout layers are switched off in the copy.
    engine : str
        ``"auto"``, ``"dense"`` (insist on batched products), ``"vmap"`` or ``"loop"``.
    exclude : sequence of str
        Names or patterns of parameters that are no part of the Bayesian vector.

    Attributes
    ----------
    layout : ParameterLayout
        The Bayesian parameters: a flat vector of n.
    excluded : ParameterLayout
        The excluded ones.
    full : ParameterLayout
        All trainable parameters in the module's order: the engines' flat vector.

    Raises
    ------
    UserError
        For an unknown engine, an engine that the module cannot use, a pattern that matches nothing, and for modules
        that ``skeleton_of`` refuses.
    """

    def __init__(self, module: nn.Module, engine: str = "auto", exclude: Sequence[str] = ()) -> None:
        if engine not in ENGINES:
            raise UserError(f"engine={engine!r}: expected one of {', '.join(ENGINES)}")
        self.module = skeleton_of(module)
        bayesian, excluded = split_names(self.module, exclude)
        shapes = {name: p.shape for name, p in self.module.named_parameters()}
        everything = [n for n, p in self.module.named_parameters() if p.requires_grad]
        self.layout = _layout(bayesian, shapes)
        self.excluded = _layout(excluded, shapes)
        self.full = _layout(everything, shapes)
        self._order = _assembly(self.full, [*bayesian, *excluded]) if excluded else None
        self.dense_plan = _plan_dense(self.module) if engine in ("auto", "dense") else None
        if engine == "dense" and self.dense_plan is None:
            raise UserError(f"engine='dense' needs a stack of Linear layers with one activation, got {module}")
        self.widths, self.activation = self._dense_widths()
        self.engine = _choose(engine, self.module, self.dense_plan is not None)

    def assemble(self, params: Tensor, excluded: Tensor) -> Tensor:
        """The engines' flat vector (S, n_full) from Bayesian params (S, n) and excluded ones (S, m)."""
        if self._order is None:
            return params
        return torch.cat([params, excluded], dim=-1)[..., self._order.to(params.device)]

    def dense(self, flat: Tensor, masks: tuple[Tensor | None, ...] | None = None) -> DenseStack:
        """The explicit stack for full parameters (S, n_full); raises ``UserError`` where the module is not one."""
        if self.dense_plan is None:
            raise UserError(f"{type(self.module).__name__} is not a plain stack of Linear layers")
        layers, activation = self.dense_plan
        named = self.full.split(flat)
        weights = tuple(named[f"{layer}.weight"].transpose(-1, -2) for layer in layers)
        biases = tuple(named[f"{layer}.bias"] for layer in layers)
        return DenseStack(weights, biases, masks or (None,) * (len(layers) - 1), activation)

    def masked(self, flat: Tensor, x: Tensor, masks: tuple[Tensor | None, ...]) -> Tensor:
        """Evaluate (S, n_full) on own or shared x under masks (S, B, width), one per hidden layer -> (S, B, out)."""
        learned = any(mask is not None and mask.requires_grad for mask in masks)  # the kernel has no such gradient
        if self.widths and not learned and fused.supports(flat, x, *masks, activation=self.activation):
            return fused.dense_apply(flat, x, self.widths, self.activation, masks)
        x = x if x.dim() == 3 else x.expand(flat.shape[0], *x.shape)
        return self.dense(flat, masks)(x)

    def each(self, flat: Tensor, x: Tensor) -> Tensor:
        """Evaluate full parameters (S, n_full) on their own inputs x (S, B, *in) -> (S, B, *out)."""
        if self.dense_plan is not None and x.dim() > 3:  # Linear layers act on the last axis
            return self.each(flat, x.flatten(1, -2)).unflatten(1, x.shape[1:-1])
        if self.widths and x.dim() == 3 and fused.supports(flat, x, activation=self.activation):
            return fused.dense_apply(flat, x, self.widths, self.activation)
        if self.dense_plan is not None:
            return self.dense(flat)(x)
        named = self.full.split(flat)
        if self.engine == "vmap":
            return torch.vmap(self.call)(named, x)
        return torch.stack([self.call({k: v[s] for k, v in named.items()}, x[s]) for s in range(flat.shape[0])])

    def shared(self, flat: Tensor, x: Tensor) -> Tensor:
        """Evaluate full parameters (S, n_full) on one batch x (B, *in) -> (S, B, *out)."""
        if self.dense_plan is not None and x.dim() > 2:
            return self.shared(flat, x.flatten(0, -2)).unflatten(1, x.shape[:-1])
        if self.widths and x.dim() == 2 and fused.supports(flat, x, activation=self.activation):
            return fused.dense_apply(flat, x, self.widths, self.activation)
        if self.engine == "vmap":
            return torch.vmap(self.call, in_dims=(0, None))(self.full.split(flat), x)
        return self.each(flat, x.expand(flat.shape[0], *x.shape))

    def _dense_widths(self) -> tuple[tuple[int, ...], str]:
        """Layer widths (in, *out) and activation for the compiled kernel, which reads the flat vector in place."""
        if self.dense_plan is None:
            return (), ""
        layers, activation = self.dense_plan
        if self.full.names != tuple(f"{layer}.{part}" for layer in layers for part in ("weight", "bias")):
            return (), ""
        shapes = dict(zip(self.full.names, self.full.shapes, strict=True))
        outs = [shapes[f"{layer}.weight"] for layer in layers]
        return (outs[0][1], *(shape[0] for shape in outs)), activation

    def call(self, named: dict[str, Tensor], x: Tensor) -> Tensor:
        """Evaluate one set of named parameters; a tied weight is one tensor wherever it occurs."""
        return functional_call(self.module, named, (x,))

    def own_parameters(self) -> Tensor:
        """The module's initial weights as one flat vector (n_full,)."""
        named = {name: p.detach() for name, p in self.module.named_parameters()}
        return self.full.join(named)

    def fresh_parameters(self, size: int, generator: torch.Generator) -> Tensor:
        """``size`` initialisations (size, n_full) by the layers' own ``reset_parameters``."""
        rows = [self.full.join(named) for named in reinitialised(self.module, size, generator)]
        return torch.stack(rows) if rows else self.own_parameters().new_zeros(0, self.full.total)

    def divide(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Take full vectors (S, n_full) apart into Bayesian (S, n) and excluded (S, m) ones."""
        named = self.full.split(flat)
        if not self.excluded.names:
            return flat, flat.new_zeros(*flat.shape[:-1], 0)
        return self.layout.join(named), self.excluded.join(named)


def _layout(names: Sequence[str], shapes: dict[str, torch.Size]) -> ParameterLayout:
    return ParameterLayout(tuple(names), tuple(shapes[n] for n in names))


def _assembly(full: ParameterLayout, order: Sequence[str]) -> Tensor:
    """Indices that bring the concatenation of parameters in ``order`` into the order of ``full``."""
    places, sizes = full.slices(), dict(zip(full.names, full.sizes, strict=True))
    inverse = torch.cat([torch.arange(places[n].start, places[n].start + sizes[n]) for n in order])
    return torch.argsort(inverse)


def _choose(engine: str, module: nn.Module, dense: bool) -> str:
    recurrent = any(isinstance(m, nn.RNNBase) for m in module.modules())  # their kernels have no batching rule
    if engine == "vmap" and recurrent:
        raise UserError("engine='vmap' cannot run recurrent layers (nn.LSTM, nn.GRU, nn.RNN): use 'auto' or 'loop'")
    if engine != "auto":
        return engine
    if dense:
        return "dense"
    return "loop" if recurrent else "vmap"


def _plan_dense(module: nn.Module) -> tuple[tuple[str, ...], str] | None:
    """Names of the Linear layers and the activation, if the module is Linear (act Linear)*; else None."""
    if type(module) is not nn.Sequential or len(module) % 2 == 0:  # a subclass may have a forward of its own
        return None
    children = list(module._modules.items())  # unlike named_children(), with the modules that occur twice
    linear, between = children[::2], children[1::2]
    if not all(type(m) is nn.Linear and m.bias is not None for _, m in linear):
        return None
    if len({id(p) for _, m in linear for p in (m.weight, m.bias)}) < 2 * len(
        linear
    ):  # a layer used twice, tied weights
        return None
    kinds = {_ACTIVATION_MODULES.get(type(m)) for _, m in between} or {"identity"}
    if len(kinds) != 1 or None in kinds or not all(p.requires_grad for p in module.parameters()):
        return None
    return tuple(name for name, _ in linear), str(kinds.pop())
