"""Which input unit each number of a weight belongs to, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Units = dict[str, Tensor]
"""By the local name of a weight: the number of the input unit that each of its entries multiplies, of its shape."""


@dataclass(frozen=True)
class Reading:
    """One vector that a layer reads, and the weights that multiply it.

    Attributes
    ----------
    units : dict of Tensor
        See ``Units``.
    width : int
        Length of the vector: units (channels of a convolution, rows of an embedding).
    entry : bool
        It comes from outside of the layer (the other ones are the layer's own hidden units).
    data : bool
        It always comes from the data, wherever the layer stands: the indices of an embedding.
    """

    units: Units
    width: int
    entry: bool = True
    data: bool = False


def readings_of(layer: nn.Module) -> list[Reading]:
    """What ``layer`` itself reads (its children not looked at); empty for modules without weight columns."""
    for kind, read in _READERS:
        if isinstance(layer, kind):
            return read(layer)
    return []


def _columns(*weights: tuple[str, Tensor], entry: bool = True) -> Reading:
    width = weights[0][1].shape[1]
    return Reading({name: torch.arange(width).expand(w.shape) for name, w in weights}, width, entry)


def _linear(layer: nn.Linear) -> list[Reading]:
    return [_columns(("weight", layer.weight))]


def _convolution(layer: _ConvNd) -> list[Reading]:
    weight, share = layer.weight, layer.in_channels // layer.groups
    tail = (1,) * (weight.dim() - 2)
    if isinstance(layer, _ConvTransposeNd):  # (in, out / groups, *kernel)
        units = torch.arange(layer.in_channels).view(-1, 1, *tail)
    else:  # (out, in / groups, *kernel): output o lies in group o // (out / groups) and sees that group's inputs
        group = torch.arange(layer.out_channels) // (layer.out_channels // layer.groups)
        units = (group.unsqueeze(1) * share + torch.arange(share)).view(*weight.shape[:2], *tail)
    return [Reading({"weight": units.expand(weight.shape)}, layer.in_channels)]


def _embedding(layer: nn.Embedding | nn.EmbeddingBag) -> list[Reading]:
    rows = torch.arange(layer.num_embeddings).unsqueeze(1)
    return [Reading({"weight": rows.expand(layer.weight.shape)}, layer.num_embeddings, data=True)]


def _attention(layer: nn.MultiheadAttention) -> list[Reading]:
    if layer.in_proj_weight is not None:
        return [_columns(("in_proj_weight", layer.in_proj_weight))]
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    return [_columns((name, getattr(layer, name))) for name in names]


def _recurrent(layer: nn.RNNBase) -> list[Reading]:
    found = []
    for number in range(layer.num_layers):
        ends = [f"l{number}", f"l{number}_reverse"] if layer.bidirectional else [f"l{number}"]
        both = [(f"weight_ih_{end}", getattr(layer, f"weight_ih_{end}")) for end in ends]
        found.append(_columns(*both, entry=number == 0))
        own = [f"weight_hh_{end}" for end in ends] + [f"weight_hr_{end}" for end in ends if layer.proj_size]
        found += [_columns((name, getattr(layer, name)), entry=False) for name in own]
    return found


def _cell(layer: nn.RNNCellBase) -> list[Reading]:
    return [_columns(("weight_ih", layer.weight_ih)), _columns(("weight_hh", layer.weight_hh), entry=False)]


_READERS: list[tuple[type | tuple[type, ...], Callable[..., list[Reading]]]] = [
    (nn.Linear, _linear),
    (_ConvNd, _convolution),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.MultiheadAttention, _attention),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
]
