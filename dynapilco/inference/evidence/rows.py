"""One data set out of a batch that may hold several."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.target import Batch


@dataclass(frozen=True)
class Rows:
    """Rows of one data set: x (N, *in), y (N, O), and how often each counts, (N,) or None."""

    x: Tensor
    y: Tensor
    weights: Tensor | None

    @classmethod
    def of(cls, batch: Batch, r: int, most: int | None = None) -> Rows:
        """Data set ``r`` of a batch; no more than ``most`` rows of it, evenly spaced."""
        count = batch.rows if most is None else min(batch.rows, most)
        index = torch.linspace(0, batch.rows - 1, count).round().long()

        def own(tensor: Tensor) -> Tensor:
            mine = tensor[r] if batch.row_axis and tensor.dim() > 1 else tensor
            return mine if count == batch.rows else mine[index]

        return cls(own(batch.x), own(batch.y), None if batch.weights is None else own(batch.weights))
