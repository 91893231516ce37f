"""Kronecker-factored curvature: a product of two small matrices for each Linear or convolution layer.

For a layer z = W a (bias: a column of W, a 1 in a) the block of the generalised Gauss-Newton matrix is

    sum_i (a_i a_i^T) (x) (g_i g_i^T)  ~=  A (x) G,    A = mean_i a_i a_i^T,    G = sum_i g_i g_i^T,

g_i the derivatives of the outputs in z, times the root of the likelihood's curvature (Martens & Grosse 2015; Botev et
al. 2017; Ritter et al. 2018, "A scalable Laplace approximation for neural networks"). A layer that is applied at
several places (positions of a convolution or sequence, or uses) sums over them in both factors ("expand": Eschenhagen
et al. 2023). The prior's precision is not spread over the factors by square roots but added exactly, in the eigenbasis
of the factors: with D^-2 its mean over the layer's outputs, H = D^-1 (DAD (x) G + 1) D^-1. Exact where one factor is
constant over rows: a single linear layer with Gaussian noise, or one row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dynapilco.inference.curvature.ggn import LocalModel
from dynapilco.inference.network import StackedNetwork

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
ROWS = 512


@dataclass(frozen=True)
class Block:
    """One layer: its name and which of its ``weight`` and ``bias`` are Bayesian."""

    layer: str
    parts: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Full names of its parameters."""
        return [f"{self.layer}.{part}".lstrip(".") for part in self.parts]


def blocks_of(network: StackedNetwork, names: Sequence[str]) -> list[Block]:
    """The layers among the parameters ``names`` whose curvature factorises; other parameters have to do without.

    Not: weights shared by different modules, grouped or transposed convolutions, attention, recurrence, embeddings.
    """
    holders = Counter(id(p) for _, p in network.module.named_parameters(remove_duplicate=False))
    uses = Counter(id(m) for _, m in network.module.named_modules(remove_duplicate=False))
    blocks = []
    for layer, module in network.module.named_modules():
        if not (type(module) is nn.Linear or (type(module) in CONVOLUTIONS and module.groups == 1)):
            continue
        found = dict(module.named_parameters(recurse=False))
        block = Block(layer, tuple(k for k in ("weight", "bias") if Block(layer, (k,)).names[0] in names))
        if block.parts and all(holders[id(p)] == uses[id(module)] for p in found.values()):
            blocks.append(block)
    return blocks


def kronecker_factors(local: LocalModel, blocks: Sequence[Block]) -> list[tuple[Tensor, Tensor]]:
    """A and G of each block, float64."""
    gatherers = [_Gatherer(local.model.network.module.get_submodule(b.layer), b.parts) for b in blocks]
    for part in local.chunks(ROWS):
        _gather(part, gatherers)
    return [(g.inputs / max(g.count, 1e-300), g.outputs) for g in gatherers]


def called(local: LocalModel, blocks: Sequence[Block]) -> list[bool]:
    """Whether each block's layer runs when the network does (some only lend their weights)."""
    gatherers = [_Gatherer(local.model.network.module.get_submodule(b.layer), b.parts) for b in blocks]
    _gather(local, gatherers)
    return [g.calls > 0 for g in gatherers]


class _Gatherer:
    """Sums over what goes in and comes back at one layer."""

    def __init__(self, module: nn.Module, parts: tuple[str, ...]) -> None:
        self.module, self.parts = module, parts
        self.inputs: Any = 0.0
        self.outputs: Any = 0.0
        self.count, self.calls = 0.0, 0
        self.seen: list[Tensor] = []
        self.weights = torch.ones(0)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Forward hook."""
        rows = _patches(module, args[0].detach()).double()  # (B, positions, in)
        weights = self.weights if rows.shape[0] == self.weights.shape[0] else rows.new_ones(rows.shape[0])
        if "weight" not in self.parts:
            rows = rows[..., :0]
        if "bias" in self.parts:
            rows = torch.cat([rows, rows.new_ones(*rows.shape[:-1], 1)], dim=-1)
        weighted = rows * weights.reshape(-1, 1, 1)
        self.inputs = self.inputs + torch.einsum("bti,btj->ij", weighted, rows)
        self.count, self.calls = self.count + float(weights.sum()) * rows.shape[1], self.calls + 1
        self.seen.append(output)
        return output.clone()  # what follows may work in place

    def back(self, gradient: Tensor) -> None:
        """Add the gradient in an output of the layer."""
        g = (gradient.movedim(1, -1) if isinstance(self.module, CONVOLUTIONS) else gradient).double()
        g = g.reshape(-1, g.shape[-1])
        self.outputs = self.outputs + g.T @ g


def _gather(local: LocalModel, gatherers: list[_Gatherer]) -> None:
    network = local.model.network
    with torch.enable_grad(), _hooked(gatherers):
        for g in gatherers:
            g.seen, g.weights = [], local.weights
        named = {name: p.clone().requires_grad_(True) for name, p in network.full.split(local.full).items()}
        f = network.call(named, local.x)
    layers = [(g, z) for g in gatherers for z in g.seen]
    roots = local.roots(f).to(f.dtype)
    flat = f.flatten(1)
    for j in range(roots.shape[-1] if layers else 0):
        value = (roots[..., j] * flat).sum()
        seen = [z for _, z in layers]
        grads = torch.autograd.grad(value, seen, retain_graph=True, materialize_grads=True)
        for (g, _), grad in zip(layers, grads, strict=True):
            g.back(grad)


@contextmanager
def _hooked(gatherers: list[_Gatherer]) -> Iterator[None]:
    handles = [g.module.register_forward_hook(g) for g in gatherers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _patches(module: nn.Module, x: Tensor) -> Tensor:
    """Inputs of a layer as rows of a matrix product: (B, positions, in)."""
    if not isinstance(module, CONVOLUTIONS):
        return x.reshape(x.shape[0], -1, x.shape[-1])
    shape = module.weight.shape[1:]
    pick = torch.eye(shape.numel(), dtype=x.dtype, device=x.device).reshape(-1, *shape)
    return module._conv_forward(x, pick, None).flatten(2).transpose(1, 2)  # also pads, strides and dilates
