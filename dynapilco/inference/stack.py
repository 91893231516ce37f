"""Stacks of dense layers: the explicit form of a draw whose functions are plain multilayer perceptrons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "identity": lambda x: x,
}


@dataclass(frozen=True)
class DenseStack:
    """G multilayer perceptrons evaluated as batched matrix products.

    Attributes
    ----------
    weights : tuple of Tensor
        One per layer, shape (G, in, out): a layer computes ``x @ W + b``.
    biases : tuple of Tensor
        One per layer, shape (G, out).
    masks : tuple of (Tensor or None)
        One per *hidden* layer, multiplies the activations of that layer. Shape (N, width), a row per particle, with
        G = 1: N functions that share weights and differ by their mask (dropout). Or (G, N, width), for training.
    activation : str
        A name of ``ACTIVATIONS``, applied after every layer but the last.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if any(m is not None and m.dim() == 2 for m in self.masks) and self.weights[0].shape[0] != 1:
            raise ValueError(f"masks need shared weights (G = 1), got G = {self.weights[0].shape[0]}")

    @property
    def groups(self) -> int:
        """G, the number of weight sets."""
        return self.weights[0].shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate: x (G, P, in) -> (G, P, out). With masks, x is (1, N, in)."""
        act = ACTIVATIONS[self.activation]
        last = len(self.weights) - 1
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b.unsqueeze(1), x, w)
            if layer < last:
                x = act(x)
                mask = self.masks[layer]
                x = x if mask is None else x * mask
        return x

    def fold_input(self, scale: Tensor, shift: Tensor) -> DenseStack:
        """The same functions of z where the old input is ``scale * z + shift`` (both (in,))."""
        w, b = self.weights[0], self.biases[0]
        weights = (scale.unsqueeze(-1) * w, *self.weights[1:])
        return replace(self, weights=weights, biases=(b + shift @ w, *self.biases[1:]))

    def fold_output(self, scale: Tensor, shift: Tensor) -> DenseStack:
        """The functions ``scale * f + shift`` (both (out,))."""
        weights = (*self.weights[:-1], self.weights[-1] * scale)
        return replace(self, weights=weights, biases=(*self.biases[:-1], self.biases[-1] * scale + shift))

    def project_input(self, matrix: Tensor) -> DenseStack:
        """The same functions of z where the old input is ``z @ matrix`` (matrix (in_new, in))."""
        return replace(self, weights=(matrix @ self.weights[0], *self.weights[1:]))

    def plus(self, other: DenseStack, beta: float) -> DenseStack:
        """The functions f + beta * g as one stack: both networks side by side, their hidden layers not connected."""
        if any(m is not None for m in (*self.masks, *other.masks)):
            raise ValueError("masked stacks cannot be added")
        last = len(self.weights) - 1
        if last == 0:
            weights = (self.weights[0] + beta * other.weights[0],)
            return replace(self, weights=weights, biases=(self.biases[0] + beta * other.biases[0],))
        pairs = list(zip(self.weights, other.weights, strict=True))
        weights = [torch.cat(pairs[0], -1), *(_block_diagonal(a, b) for a, b in pairs[1:last])]
        weights.append(torch.cat([pairs[last][0], beta * pairs[last][1]], -2))
        biases = [torch.cat(pair, -1) for pair in zip(self.biases[:-1], other.biases[:-1], strict=True)]
        biases.append(self.biases[-1] + beta * other.biases[-1])
        return replace(self, weights=tuple(weights), biases=tuple(biases))


def _block_diagonal(a: Tensor, b: Tensor) -> Tensor:
    upper = torch.cat([a, a.new_zeros(*a.shape[:-1], b.shape[-1])], -1)
    lower = torch.cat([b.new_zeros(*b.shape[:-1], a.shape[-1]), b], -1)
    return torch.cat([upper, lower], -2)
