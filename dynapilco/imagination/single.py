"""``LearnedEnv``: one imagined episode at a time, behind Gymnasium's plain interface."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from dynapilco.core.errors import UserError
from dynapilco.imagination.vector_env import LearnedVectorEnv


class LearnedEnv(gymnasium.Env):
    """A thin face on a :class:`LearnedVectorEnv` of one environment, without autoreset.

    Parameters
    ----------
    env : LearnedVectorEnv

    Raises
    ------
    UserError
        For more than one environment.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, env: LearnedVectorEnv) -> None:
        if env.num_envs != 1:
            raise UserError(f"num_envs={env.num_envs!r}: expected an imagined environment of one")
        self.env, self.render_mode = env, None
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new start; a seed repeats the episode."""
        super().reset(seed=seed)
        observations, _ = self.env.reset(seed=seed, options=options)
        return observations[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One imagined step; see ``gymnasium.Env.step``."""
        observations, rewards, ended, cut, info = self.env.step(np.asarray(action)[None])
        done = bool(ended[0] or cut[0])
        observation = info["final_obs"][0] if done else observations[0]
        return observation, float(rewards[0]), bool(ended[0]), bool(cut[0]), {}
