"""The data set: every transition seen, in the order of collection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError


@dataclass(frozen=True)
class Transitions:
    """Rows (state, action, next state, reward) with the trial each came from.

    Attributes
    ----------
    states, next_states : Tensor
        Observations before and after, (N, D) float32.
    actions : Tensor
        (N, M) float32, in the units of the environment.
    rewards : Tensor
        (N,) float32.
    trials : Tensor
        (N,) int64.
    """

    states: Tensor
    actions: Tensor
    next_states: Tensor
    rewards: Tensor
    trials: Tensor

    @classmethod
    def empty(cls, states: int, actions: int) -> Transitions:
        """No rows, of the given widths."""
        return cls(
            torch.zeros(0, states),
            torch.zeros(0, actions),
            torch.zeros(0, states),
            torch.zeros(0),
            torch.zeros(0, dtype=torch.int64),
        )

    @classmethod
    def of_episode(cls, observations: Tensor, actions: Tensor, rewards: Tensor, trial: int) -> Transitions:
        """Rows of one episode: observations (T+1, D), actions (T, M), rewards (T,).

        Raises
        ------
        UserError
            When a number is not finite; the message names the step.
        """
        for name, values in (("observation", observations), ("action", actions), ("reward", rewards)):
            rows = ~torch.isfinite(values.reshape(len(values), -1)).all(-1)
            if rows.any():
                step = int(rows.nonzero()[0])
                raise UserError(f"trial {trial}: {name} {step} is not finite: {values[step].tolist()}")
        trials = torch.full((len(actions),), trial, dtype=torch.int64)
        return cls(observations[:-1], actions, observations[1:], rewards, trials)

    def __len__(self) -> int:
        return len(self.actions)

    def append(self, other: Transitions) -> Transitions:
        """These rows and then the others."""
        pairs = zip(self.tensors().items(), other.tensors().values(), strict=True)
        return Transitions(**{name: torch.cat([a, b]) for (name, a), b in pairs})

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor, for checkpoints."""
        return {
            "states": self.states,
            "actions": self.actions,
            "next_states": self.next_states,
            "rewards": self.rewards,
            "trials": self.trials,
        }

    def to(self, device: torch.device) -> Transitions:
        """The same rows on ``device``."""
        return Transitions(**{name: t.to(device) for name, t in self.tensors().items()})
