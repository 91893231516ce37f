"""One small module of every architecture: what a method is asked about, and tested on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynapilco.inference.network import mlp

TOKENS = 6
"""Vocabulary of the embedding example."""


@dataclass(frozen=True)
class Example:
    """A kind of module.

    Attributes
    ----------
    name : str
    build : callable
        Number of outputs -> module with fresh weights (from torch's global generator, as any module).
    shape : tuple of int
        Of one input row.
    tokens : int
        Above 0: inputs are integers below it.
    """

    name: str
    build: Callable[[int], nn.Module]
    shape: tuple[int, ...]
    tokens: int = 0

    def inputs(self, rows: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        """Random inputs (rows, *shape)."""
        size, device = (rows, *self.shape), generator.device
        if self.tokens:
            return torch.randint(self.tokens, size, generator=generator, device=device)
        return torch.randn(size, generator=generator, device=device, dtype=dtype)


class _Attention(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.head(h + self.attention(h, h, h)[0]).mean(1)


class _Transformer(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.first(x)).mean(1))


class _UsedTwice(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first, self.middle, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.head(torch.tanh(self.middle(torch.tanh(self.middle(h)))))


class _Recurrent(nn.Module):
    """A recurrent layer (``nn.LSTM`` and its kin), or a cell that a loop runs, then a linear head."""

    def __init__(self, core: nn.Module, outputs: int) -> None:
        super().__init__()
        self.core, self.head = core, nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.core, nn.RNNBase):
            return self.head(self.core(x)[0][:, -1])
        h = x.new_zeros(x.shape[0], 4)
        for time in range(x.shape[1]):
            h = self.core(x[:, time], h)
        return self.head(h)


def _tied(outputs: int) -> nn.Module:
    net = nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, outputs)
    )
    net[4].weight = net[2].weight  # pyright: ignore[reportArgumentType]
    return net


def _convolutions(dimensions: int) -> Callable[[int], nn.Module]:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]

    def build(outputs: int) -> nn.Module:
        return nn.Sequential(
            kind(1, 2, 2), nn.Tanh(), kind(2, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 2**dimensions, outputs)
        )

    return build


def _transposed(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose1d(1, 2, 2), nn.Tanh(), nn.ConvTranspose1d(2, 2, 2), nn.Tanh(), nn.Flatten(),
        nn.Linear(10, outputs),
    )  # fmt: skip


EXAMPLES: dict[str, Example] = {
    example.name: example
    for example in (
        Example("MLP", lambda o: mlp(3, o, (4,)), (3,)),
        Example("Conv1d", _convolutions(1), (1, 4)),
        Example("Conv2d", _convolutions(2), (1, 4, 4)),
        Example("Conv3d", _convolutions(3), (1, 4, 4, 4)),
        Example(
            "LayerNorm", lambda o: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, o)), (3,)
        ),
        Example(
            "GroupNorm",
            lambda o: nn.Sequential(nn.Conv1d(1, 4, 2), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, o)),
            (1, 4),
        ),
        Example("MultiheadAttention", _Attention, (3, 3)),
        Example("TransformerEncoder", _Transformer, (3, 3)),
        Example("tied weights", _tied, (3,)),
        Example("layer used twice", _UsedTwice, (3,)),
        Example("ConvTranspose1d", _transposed, (1, 3)),
        Example(
            "Embedding",
            lambda o: nn.Sequential(nn.Embedding(TOKENS, 3), nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, o)),
            (2,),
            TOKENS,
        ),
        Example("GRUCell", lambda o: _Recurrent(nn.GRUCell(3, 4), o), (2, 3)),
        Example("LSTM", lambda o: _Recurrent(nn.LSTM(3, 4, batch_first=True), o), (2, 3)),
    )
}
"""By name, in the order of the reports."""
