"""The policy as SB3 sees it: something that turns observations into actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from dynapilco.policies import Policy
from dynapilco.tasks import ActionCodec


class ActingPolicy(BasePolicy):
    """A ``BasePolicy`` around a controller and its parameters (n,); the base class batches and converts.

    Parameters
    ----------
    observation_space, action_space : gymnasium.spaces.Space
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, **_: Any) -> None:
        super().__init__(observation_space, action_space)
        self.controller: Policy | None = None
        self.codec = ActionCodec.of(action_space)
        self.register_buffer("params", torch.zeros(0))

    def follow(self, controller: Policy, params: Tensor) -> None:
        """Act by ``controller`` with parameters (n,) from now on."""
        self.controller = controller
        self.params = params.detach().clone()

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        assert self.controller is not None
        states = observation.flatten(1).float()
        unseen = states.new_zeros(len(states), len(self.controller.geometry.unseen))  # which no policy looks at
        vectors = self.controller.act(self.params, torch.cat([states, unseen], 1)).cpu().numpy()
        return torch.as_tensor(np.stack([self.codec.decode(vector) for vector in vectors]))
