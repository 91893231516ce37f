"""N imagined systems, each under a function of its own, moved together."""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.dynamics.model import DynamicsDraw

FOLLOW = ("draw", "step")


class Cloud:
    """Moves states (N, D) under actions (N, M).

    System i follows function i mod S of the draw: for good (``follow="draw"``), or functions are dealt anew at every
    step (``follow="step"``).

    Parameters
    ----------
    draw : DynamicsDraw
    size : int
        N.
    follow : str
    generator : torch.Generator
        Of process noise and dealing.

    Raises
    ------
    UserError
        For an unknown ``follow``.
    """

    def __init__(self, draw: DynamicsDraw, size: int, follow: str, generator: torch.Generator) -> None:
        if follow not in FOLLOW:
            raise UserError(f"follow={follow!r}: expected 'draw' (a function for good) or 'step' (another every step)")
        self.draw, self.size, self.follow, self.generator = draw, size, follow, generator
        self.each = -(-size // draw.size)
        self.padding = self.each * draw.size - size

    @torch.no_grad()
    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """Next states (N, D)."""
        order = None
        if self.follow == "step":
            order = torch.randperm(self.size, generator=self.generator, device=states.device)
            states, actions = states[order], actions[order]
        after = self._merge(self.draw.step(self._split(states), self._split(actions), self._noise()))
        if order is None:
            return after
        back = torch.empty_like(after)
        back[order] = after
        return back

    def observed(self, states: Tensor) -> Tensor:
        """States (N, D) as a sensor shows them: with its noise where the model says that there is any."""
        std = self.draw.sensor_std
        if std is None:
            return states
        return states + std * torch.randn(states.shape, generator=self.generator, device=states.device)

    def _split(self, rows: Tensor) -> Tensor:
        """(N, C) -> (1, S, P, C), the last rows repeated where N is no multiple of S."""
        if self.padding:
            rows = torch.cat([rows, rows[-1:].expand(self.padding, -1)])
        return rows.reshape(self.each, self.draw.size, -1).transpose(0, 1).unsqueeze(0)

    def _merge(self, rows: Tensor) -> Tensor:
        return rows[0].transpose(0, 1).reshape(self.each * self.draw.size, -1)[: self.size]

    def _noise(self) -> Tensor | None:
        std = self.draw.process_std
        if std is None:
            return None
        size = (1, self.draw.size, self.each, self.draw.stepping.outputs)
        return torch.randn(*size, generator=self.generator, device=std.device) * std.unsqueeze(1)
