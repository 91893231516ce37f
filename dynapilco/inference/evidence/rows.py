"""One data set out of a batch that may hold several."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.evidence.kinds import Kinds
from dynapilco.inference.target import Batch


@dataclass(frozen=True)
class Rows:
    """Rows of one data set: x (N, *in), y (N, O), and how often each counts, (N,) or None."""

    x: Tensor
    y: Tensor
    weights: Tensor | None

    @classmethod
    def of(cls, batch: Batch, r: int, most: int | None = None) -> Rows:
        """Data set ``r`` of a batch; no more than ``most`` rows of it, evenly spaced, the rarer answers first."""
        count = batch.rows if most is None else min(batch.rows, most)
        index = torch.linspace(0, batch.rows - 1, count).round().long()
        kinds = Kinds.of(batch.model.likelihood, batch.model.outputs)
        if count < batch.rows and kinds is not None and kinds.binary:
            y = batch.y[r] if batch.row_axis else batch.y
            index = _with_the_rare(y[:, kinds.binary], count).to("cpu")

        def own(tensor: Tensor) -> Tensor:
            mine = tensor[r] if batch.row_axis and tensor.dim() > 1 else tensor
            return mine if count == batch.rows else mine[index]

        return cls(own(batch.x), own(batch.y), None if batch.weights is None else own(batch.weights))


def _with_the_rare(answers: Tensor, count: int) -> Tensor:
    """Numbers of ``count`` rows of answers (N, C), in order: up to half of them show a rare one, where there are any.

    Rows that are evenly spaced would hold hardly any of a few yeses among thousands of noes.
    """
    common = answers.mean(0) >= 0.5
    rare = (answers.bool() != common).any(1)
    few, many = rare.nonzero().flatten(), (~rare).nonzero().flatten()
    kept = _even(few, max(count // 2, count - len(many)))
    return torch.cat([kept, _even(many, count - len(kept))]).sort().values


def _even(index: Tensor, count: int) -> Tensor:
    """At most ``count`` of them, evenly spaced."""
    if len(index) <= count:
        return index
    return index[torch.linspace(0, len(index) - 1, count).round().long().to(index.device)]
