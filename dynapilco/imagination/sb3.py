"""``LearnedVecEnv``: the same for stable-baselines3, whose vector environments have an interface of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from dynapilco.imagination.vector_env import LearnedVectorEnv


class LearnedVecEnv(VecEnv):
    """A thin face on a :class:`LearnedVectorEnv`.

    Parameters
    ----------
    env : LearnedVectorEnv
    """

    def __init__(self, env: LearnedVectorEnv) -> None:
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.actions: Any = None
        self._blank: list[dict[str, Any]] = [{} for _ in range(env.num_envs)]

    def reset(self) -> np.ndarray:
        """First observations, (N, *shape)."""
        seeds = [seed for seed in self._seeds if seed is not None]
        observations, _ = self.env.reset(seed=seeds[0] if seeds else None)
        self._reset_seeds()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for ``step_wait``."""
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, rewards, dones and infos; ended ones hold "terminal_observation" and "TimeLimit.truncated"."""
        observations, rewards, ended, cut, info = self.env.step(self.actions)
        done, infos = ended | cut, list(self._blank)
        for i in np.flatnonzero(done):
            infos[i] = {"terminal_observation": info["final_obs"][i], "TimeLimit.truncated": bool(cut[i])}
        return observations, rewards.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute, once for each environment asked for; they share it."""
        return [getattr(self.env, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set it for all: they share it."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call it once, and repeat the result for each environment asked for."""
        result = getattr(self.env, method_name)(*args, **kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset."""
        return super().seed(seed)
