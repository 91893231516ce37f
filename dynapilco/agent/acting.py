"""The policy as SB3 sees it: something that turns observations into actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from dynapilco.tasks import ActionCodec, Angles, Stack


class ActingPolicy(BasePolicy):
    """A ``BasePolicy`` around a function of states; the base class batches and converts.

    Parameters
    ----------
    observation_space, action_space : gymnasium.spaces.Space
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, **_: Any) -> None:
        super().__init__(observation_space, action_space)
        self.codec = ActionCodec.of(action_space)
        self.vectors: Callable[[Tensor], Tensor] | None = None
        self.unseen = 0
        self.stack: Stack | None = None
        self.angles: Angles | None = None

    def follow(
        self,
        vectors: Callable[[Tensor], Tensor],
        unseen: int,
        stack: Stack | None = None,
        angles: Angles | None = None,
    ) -> None:
        """Act by ``vectors`` from now on: states (B, D) -> action vectors (B, M).

        Parameters
        ----------
        vectors : callable
        unseen : int
            Columns at the end of a state that no controller looks at.
        stack : Stack, optional
            How states hold earlier observations and actions.
        angles : Angles, optional
            How they hold angles in the place of cosines and sines.
        """
        self.vectors, self.unseen, self.stack, self.angles = vectors, unseen, stack, angles

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions of observations; with a history also what to hand over as ``state`` at the next step.

        Parameters
        ----------
        observation : ndarray
            One, or a batch.
        state : tuple of ndarray, optional
            What the last call returned; None begins new episodes.
        episode_start : ndarray, optional
            (B,), true where a new episode begins.
        deterministic : bool
            Without effect: policies are deterministic.
        """
        if self.stack is None:
            return super().predict(observation, state, episode_start, deterministic)
        self.set_training_mode(False)
        tensor, batched = self.obs_to_tensor(observation)
        rows = self._rows(tensor).cpu().numpy()
        memory = self.stack.first(rows, np)
        if state is not None:
            fresh = np.zeros(len(rows), bool) if episode_start is None else np.asarray(episode_start, bool)
            memory = np.where(fresh.reshape(-1, 1), memory, state[0])
        vectors = self.codec.canonical(self._act(np.concatenate([rows, memory], 1)))
        actions = np.stack([self.codec.decode(vector) for vector in vectors])
        return actions if batched else actions[0], (self.stack.push(memory, rows, vectors, np),)

    @torch.no_grad()
    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        vectors = self._act(self._rows(observation))
        return torch.as_tensor(np.stack([self.codec.decode(vector) for vector in vectors]))

    def _rows(self, observation: Any) -> Tensor:
        """Observations of the environment (B, *shape) as states hold them, (B, columns)."""
        rows = observation.flatten(1).float()
        return rows if self.angles is None else self.angles.encode(rows, torch)

    @torch.no_grad()
    def _act(self, seen: Any) -> np.ndarray:
        """Action vectors (B, M) of states without their unseen columns."""
        assert self.vectors is not None
        states = torch.as_tensor(seen, device=self.device)
        return self.vectors(torch.cat([states, states.new_zeros(len(states), self.unseen)], 1)).cpu().numpy()
