"""The candidates of a search: policies side by side, each with its own optimiser."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Candidates:
    """R policies with their Adam moments (Kingma & Ba 2015), row by row independent.

    Parameters
    ----------
    params : Tensor
        (R, n).
    credit : list of float
        With how far-sighted gradients each begins, R numbers (seconds).
    """

    BETAS, EPSILON = (0.9, 0.999), 1e-8

    def __init__(self, params: Tensor, credit: list[float]) -> None:
        self.credit = credit
        self.params = params.detach().clone().requires_grad_(True)
        self.first, self.second = torch.zeros_like(params), torch.zeros_like(params)
        self.count = torch.zeros(len(params), 1, device=params.device)
        self.bad_in_a_row = torch.zeros(len(params), dtype=torch.int64, device=params.device)
        self.lost_in_a_row = torch.zeros_like(self.bad_in_a_row)
        self.bad_steps = torch.zeros((), dtype=torch.int64, device=params.device)

    def __len__(self) -> int:
        return len(self.params)

    def tensors(self) -> list[Tensor]:
        """All that a step changes."""
        rows = (self.params, self.first, self.second, self.count, self.bad_in_a_row, self.lost_in_a_row)
        return [*rows, self.bad_steps]

    def update(self, gradient: Tensor, rate: float | Tensor, good: Tensor) -> None:
        """One Adam step on the rows that are ``good``; the others stay as they are."""
        b1, b2 = self.BETAS
        rows = good.unsqueeze(1)
        self.count += rows
        self.first.copy_(torch.where(rows, torch.lerp(gradient, self.first, b1), self.first))
        self.second.copy_(torch.where(rows, torch.lerp(gradient.square(), self.second, b2), self.second))
        count = self.count.clamp_min(1)
        step = (self.first / (1 - b1**count)) / ((self.second / (1 - b2**count)).sqrt() + self.EPSILON)
        with torch.no_grad():
            self.params -= rate * rows * step

    def keep(self, index: Tensor) -> None:
        """Only the candidates ``index`` go on."""
        for name in ("first", "second", "count", "bad_in_a_row", "lost_in_a_row"):
            setattr(self, name, getattr(self, name)[index].clone())
        self.credit = [self.credit[i] for i in index.tolist()]
        self.params = self.params.detach()[index].clone().requires_grad_(True)

    def replace(self, row: int, params: Tensor) -> None:
        """Put a new candidate in place of one."""
        with torch.no_grad():
            self.params[row] = params
        for name in ("first", "second", "count", "bad_in_a_row", "lost_in_a_row"):
            getattr(self, name)[row] = 0

    def best(self, returns: Tensor, count: int) -> Tensor:
        """Indices of ``count`` candidates, by returns (R,): the best of every credit first, then the best of the rest.

        Candidates with near-sighted gradients rise sooner and those with far-sighted ones often higher, so that a
        comparison half-way is fair only among equals.
        """
        order = returns.argsort(descending=True, stable=True).tolist()
        finite = [i for i in order if math.isfinite(float(returns[i]))]
        leaders = list({self.credit[i]: i for i in reversed(finite)}.values())
        leaders.sort(key=order.index)
        rest = [i for i in order if i not in leaders]
        return torch.tensor((leaders + rest)[:count], device=returns.device)
