"""The policy as SB3 sees it: something that turns observations into actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from dynapilco.tasks import ActionCodec


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

    def follow(self, vectors: Callable[[Tensor], Tensor], unseen: int) -> None:
        """Act by ``vectors`` from now on: states (B, D) -> action vectors (B, M).

        Parameters
        ----------
        vectors : callable
        unseen : int
            Columns at the end of a state that no controller looks at.
        """
        self.vectors, self.unseen = vectors, unseen

    @torch.no_grad()
    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        assert self.vectors is not None
        states = observation.flatten(1).float()
        states = torch.cat([states, states.new_zeros(len(states), self.unseen)], 1)
        return torch.as_tensor(np.stack([self.codec.decode(vector) for vector in self.vectors(states).cpu().numpy()]))
