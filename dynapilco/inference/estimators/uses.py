"""How a module uses each of its weights: found by watching one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dynapilco.inference.network import StackedNetwork

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
LAYER_CALLS = (F.linear, *CONVOLUTIONS)

ROWS, POSITIONS = "rows", "positions"


@dataclass(frozen=True)
class Use:
    """One call of a linear layer or a convolution.

    Attributes
    ----------
    kind : str
        ``ROWS``: the weight meets each row once. ``POSITIONS``: several times (a convolution, a sequence).
    bias : str or None
        Name of the bias, if nothing else uses it.
    into, out : tuple of int
        Shape of a row's signs, ready to broadcast over its input and its output.
    """

    kind: str
    bias: str | None
    into: tuple[int, ...]
    out: tuple[int, ...]


def arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None, Callable]:
    """Input, weight and bias of a call, and how to repeat it: ``again(function, input, weight, bias)``."""
    given = list(args[:3])
    rest = {k: v for k, v in kwargs.items() if k not in ("input", "weight", "bias")}
    for position, name in enumerate(("input", "weight", "bias")):
        if len(given) <= position:
            given.append(kwargs.get(name))

    def again(function: Callable, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return function(x, weight, bias, *args[3:], **rest)

    return given[0], given[1], given[2], again


class _Watch(TorchFunctionMode):
    """Counts every use of the named tensors, and describes the calls of layers among them."""

    def __init__(self, named: Mapping[str, Tensor], rows: int) -> None:
        super().__init__()
        self.names = {id(tensor): name for name, tensor in named.items()}
        self.rows = rows
        self.count: Counter[str] = Counter()
        self.uses: dict[str, Use] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor | tuple | list):
            return result  # a shape, a dtype
        for value in _flat([*args, *kwargs.values()]):
            if id(value) in self.names:
                self.count[self.names[id(value)]] += 1
        if func in LAYER_CALLS and isinstance(result, Tensor):
            self._describe(func, args, kwargs, result)
        return result

    def _describe(self, func: Any, args: Any, kwargs: Any, result: Tensor) -> None:
        x, weight, bias, _ = arguments(args, kwargs)
        name, own = self.names.get(id(weight)), self.names.get(id(bias))
        if name is None or x.shape[0] != self.rows:
            return
        ones = (1,) * (x.dim() - 2)
        if func is F.linear:
            kind = ROWS if x.dim() == 2 else POSITIONS
            self.uses[name] = Use(kind, own, (*ones, x.shape[-1]), (*ones, result.shape[-1]))
        elif x.dim() == weight.dim():  # with a batch axis
            self.uses[name] = Use(POSITIONS, own, (x.shape[1], *ones), (result.shape[1], *ones))


def _flat(values: Any) -> list[Any]:
    return [v for value in values for v in (_flat(value) if isinstance(value, tuple | list) else [value])]


_CACHE: WeakKeyDictionary[StackedNetwork, dict[tuple[Any, ...], dict[str, Use]]] = WeakKeyDictionary()


def layer_uses(network: StackedNetwork, flat: Tensor, x: Tensor) -> dict[str, Use]:
    """Weights of ``network`` that one layer call uses once, with rows along its first axis, and how.

    Weights used otherwise are missing: tied ones, layers called twice, those inside attention, norms and embeddings.

    Parameters
    ----------
    flat : Tensor, shape (n_full,)
        Any weights of the network.
    x : Tensor, shape (B, *in)
        Its first row is looked at.
    """
    key = (tuple(x.shape[1:]), x.dtype, flat.dtype, flat.device)
    known = _CACHE.setdefault(network, {})
    if key not in known:
        # two widths of the batch tell the axis of rows from an axis that happens to have its length
        first, second = _watch(network, flat, x, 2), _watch(network, flat, x, 3)
        known[key] = {name: use for name, use in first.items() if second.get(name) == use}
    return known[key]


@torch.no_grad()
def _watch(network: StackedNetwork, flat: Tensor, x: Tensor, rows: int) -> dict[str, Use]:
    named = network.full.split(flat.detach())
    with _Watch(named, rows) as watch:
        network.call(named, x[:1].expand(rows, *x.shape[1:]))
    once = {name for name, count in watch.count.items() if count == 1}
    return {
        name: use if use.bias in once else replace(use, bias=None) for name, use in watch.uses.items() if name in once
    }
