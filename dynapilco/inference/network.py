"""One user network, S parameter vectors: the deterministic function that every method is Bayesian about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dynapilco.core.errors import UserError
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


@dataclass(frozen=True)
class ParameterLayout:
    """Where each named parameter lies in a flat vector of n numbers.

    Attributes
    ----------
    names : tuple of str
    shapes : tuple of torch.Size
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def sizes(self) -> list[int]:
        """Number of elements of each parameter."""
        return [shape.numel() for shape in self.shapes]

    @property
    def total(self) -> int:
        """n, the length of the flat vector."""
        return sum(self.sizes)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """View (S, n) as named tensors (S, *shape)."""
        pieces = flat.split(self.sizes, dim=-1)
        return {
            name: piece.reshape(*flat.shape[:-1], *shape)
            for name, shape, piece in zip(self.names, self.shapes, pieces, strict=True)
        }

    def join(self, tensors: dict[str, Tensor]) -> Tensor:
        """Concatenate named tensors (S, *shape) into (S, n)."""
        lead = tensors[self.names[0]].shape[: tensors[self.names[0]].dim() - len(self.shapes[0])]
        return torch.cat([tensors[name].reshape(*lead, -1) for name in self.names], dim=-1)


class StackedNetwork:
    """Evaluates one ``nn.Module`` with S flat parameter vectors at once.

    The module serves as a skeleton: it is never trained or changed. A plain stack of ``nn.Linear`` layers with one
    kind of activation runs as batched matrix products; any other module runs under ``torch.func.vmap``.

    Parameters
    ----------
    module : nn.Module
        A deterministic module with trainable parameters.
    engine : str
        ``"auto"``, ``"dense"`` (insist on batched products) or ``"vmap"``.
    """

    def __init__(self, module: nn.Module, engine: str = "auto") -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        if not named:
            raise UserError(f"module={type(module).__name__} has no trainable parameters: there is nothing to infer")
        self.module = module
        self.layout = ParameterLayout(tuple(n for n, _ in named), tuple(p.shape for _, p in named))
        self.dense_plan = _plan_dense(module) if engine in ("auto", "dense") else None
        if engine not in ("auto", "dense", "vmap"):
            raise UserError(f"engine={engine!r}: expected 'auto', 'dense' or 'vmap'")
        if engine == "dense" and self.dense_plan is None:
            raise UserError(f"engine='dense' needs a stack of Linear layers with one activation, got {module}")

    def dense(self, flat: Tensor, masks: tuple[Tensor | None, ...] | None = None) -> DenseStack:
        """The explicit stack for parameters (S, n); raises ``UserError`` where the module is not one."""
        if self.dense_plan is None:
            raise UserError(f"{type(self.module).__name__} is not a plain stack of Linear layers")
        layers, activation = self.dense_plan
        named = self.layout.split(flat)
        weights = tuple(named[f"{layer}.weight"].transpose(-1, -2) for layer in layers)
        biases = tuple(named[f"{layer}.bias"] for layer in layers)
        return DenseStack(weights, biases, masks or (None,) * (len(layers) - 1), activation)

    def each(self, flat: Tensor, x: Tensor) -> Tensor:
        """Evaluate parameters (S, n) on their own inputs x (S, B, *in) -> (S, B, *out)."""
        if self.dense_plan is not None:
            return self.dense(flat)(x)
        return torch.vmap(self._call)(self.layout.split(flat), x)

    def shared(self, flat: Tensor, x: Tensor) -> Tensor:
        """Evaluate parameters (S, n) on one batch x (B, *in) -> (S, B, *out)."""
        if self.dense_plan is not None:
            return self.each(flat, x.expand(flat.shape[0], *x.shape))
        return torch.vmap(self._call, in_dims=(0, None))(self.layout.split(flat), x)

    def _call(self, named: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.module, named, (x,))


def _plan_dense(module: nn.Module) -> tuple[tuple[str, ...], str] | None:
    """Names of the Linear layers and the activation, if the module is Linear (act Linear)*; else None."""
    if type(module) is not nn.Sequential or len(module) % 2 == 0:  # a subclass may have a forward of its own
        return None
    children = list(module._modules.items())  # unlike named_children(), with the modules that occur twice
    linear, between = children[::2], children[1::2]
    if not all(type(m) is nn.Linear and m.bias is not None for _, m in linear):
        return None
    if len({id(m) for _, m in linear}) < len(linear):  # tied layers
        return None
    kinds = {_ACTIVATION_MODULES.get(type(m)) for _, m in between} or {"identity"}
    if len(kinds) != 1 or None in kinds or not all(p.requires_grad for p in module.parameters()):
        return None
    return tuple(name for name, _ in linear), str(kinds.pop())
