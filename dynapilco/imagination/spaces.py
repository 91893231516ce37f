"""What an agent of stable-baselines3 sees of a task: flat boxes, and choices counted from 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from dynapilco.tasks import ActionCodec, Task


def observed_size(task: Task) -> int:
    """Columns of what is observed of a state: all but those that are learned beside the motion, no angles."""
    return task.observed_size


def observed_space(task: Task) -> spaces.Box:
    """A flat box of numbers without bounds, float32."""
    return spaces.Box(-np.inf, np.inf, (observed_size(task),), np.float32)


def learning_task(task: Task) -> Task:
    """The same task, with actions as stable-baselines3 wants them."""
    choices = task.codec.choices
    if not choices:
        space: spaces.Space = spaces.Box(task.low, task.high, dtype=np.float32)
    elif isinstance(task.codec.space, spaces.Discrete):
        space = spaces.Discrete(choices[0])
    else:
        space = spaces.MultiDiscrete(list(choices))
    return replace(task, codec=ActionCodec.of(space))


class NoEnv(VecEnv):
    """The spaces of a task and nothing behind them, for an agent that only acts.

    Parameters
    ----------
    task : Task
        See :func:`learning_task`.
    num_envs : int
    """

    def __init__(self, task: Task, num_envs: int = 1) -> None:
        super().__init__(num_envs, observed_space(task), task.codec.space)

    def reset(self) -> Any:
        """There is nothing to reset."""
        raise NotImplementedError("these are the spaces of a task only")

    def step_async(self, actions: np.ndarray) -> None:
        """There is nothing to step."""
        raise NotImplementedError("these are the spaces of a task only")

    def step_wait(self) -> Any:
        """There is nothing to wait for."""
        raise NotImplementedError("these are the spaces of a task only")

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """None has any."""
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """None can be set."""
        raise NotImplementedError("these are the spaces of a task only")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """There are none."""
        raise NotImplementedError("these are the spaces of a task only")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Nothing is wrapped."""
        return [False for _ in self._get_indices(indices)]


class StillEnv(NoEnv):
    """The spaces of a task, in which nothing moves, is paid or ends: to try an agent out."""

    def reset(self) -> Any:
        """Zeros (N, D)."""
        return np.zeros((self.num_envs, *(self.observation_space.shape or ())), np.float32)

    def step_async(self, actions: np.ndarray) -> None:
        """Nothing comes of actions."""

    def step_wait(self) -> Any:
        """Zeros again."""
        nothing = np.zeros(self.num_envs, np.float32)
        return self.reset(), nothing, nothing.astype(bool), [{} for _ in range(self.num_envs)]
