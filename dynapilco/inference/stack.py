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
        One per *hidden* layer, shape (N, width): multiplies the activations of that layer, a row per particle.
        Only with G = 1: N functions that share weights and differ by their mask (dropout).
    activation : str
        A name of ``ACTIVATIONS``, applied after every layer but the last.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if any(m is not None for m in self.masks) and self.weights[0].shape[0] != 1:
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
