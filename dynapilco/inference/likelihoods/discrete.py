"""What likelihoods of classes and counts share: no noise parameters, whole numbers as targets."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods.base import Likelihood


class DiscreteLikelihood(Likelihood):
    """Targets are whole numbers; the network's output says everything about their distribution."""

    discrete: ClassVar[bool] = True

    def init(self, members: int, outputs: int) -> Tensor:
        """No noise parameters: (members, 0)."""
        return torch.zeros(members, 0)

    def prepare(self, y: Tensor, outputs: int) -> Tensor:
        """Targets of any dtype as floating (..., N, out); (N,) is taken where there is one column.

        Raises
        ------
        UserError
            For other shapes, NaN, and numbers outside the support.
        """
        y = self._columns(y, outputs)
        y = y if y.is_floating_point() else y.to(torch.get_default_dtype())
        self._refuse(y, ~torch.isfinite(y), "finite numbers")
        self._refuse(y, y != y.round(), "whole numbers")
        return y

    def _columns(self, y: Tensor, outputs: int) -> Tensor:
        if y.dim() == 1 and outputs == 1:
            y = y.unsqueeze(-1)
        if y.dim() not in (2, 3):
            raise UserError(f"y has shape {tuple(y.shape)}: expected (N, {outputs}) or (S, N, {outputs})")
        if y.shape[-1] != outputs:
            raise UserError(f"y has {y.shape[-1]} columns, likelihood {type(self).__name__} serves {outputs}")
        return y

    def _refuse(self, y: Tensor, wrong: Tensor, expected: str) -> None:
        """Raise where ``wrong`` holds anywhere, with the values found there."""
        if bool(wrong.any()):
            values = y[wrong].unique()[:3].tolist()
            shown = ", ".join(f"{v:g}" for v in values)
            raise UserError(
                f"y holds {shown} in {int(wrong.sum())} places: likelihood {type(self).__name__} expects {expected}"
            )
