"""An environment that writes down the episodes of a model-free learner as trials."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from dynapilco.agent.context import env_seed
from dynapilco.agent.episode import true_state
from dynapilco.tasks import Task
from dynapilco.tracking.sink import TrialRow


class Recorder(gymnasium.Wrapper):
    """Resets each episode with the seed of dynapilco's trial of that number, and tells each finished episode.

    Parameters
    ----------
    env : gymnasium.Env
    task : Task
    seed : int
        Of the run.
    untrained_steps : int
        Environment steps before the learner's first update; an episode within them counts as exploration.
    finished : callable
        Hears the row of each finished episode.
    """

    def __init__(
        self, env: gymnasium.Env, task: Task, seed: int, untrained_steps: int, finished: Callable[[TrialRow], None]
    ) -> None:
        super().__init__(env)
        self.task, self.seed, self.untrained_steps, self.finished = task, seed, untrained_steps, finished
        self.episode, self.steps = 0, 0
        self._states: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._began, self._inside = time.perf_counter(), 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode; the learner's own seed is not used."""
        clock = time.perf_counter()
        observation, info = self.env.reset(seed=env_seed(self.seed, "env", self.episode), options=options)
        self._states, self._rewards = [self._state(observation)], []
        self._inside = time.perf_counter() - clock
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step."""
        clock = time.perf_counter()
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._inside += time.perf_counter() - clock
        self.steps += 1
        self._states.append(self._state(observation))
        self._rewards.append(float(reward))
        if terminated or truncated:
            self.finished(self._row())
            self.episode += 1
        return observation, float(reward), bool(terminated), bool(truncated), info

    def _state(self, observation: Any) -> np.ndarray:
        return true_state(self.env, np.array(observation, dtype=np.float64).reshape(-1))

    def _row(self) -> TrialRow:
        now = time.perf_counter()
        seconds, self._began = now - self._began, now
        explored, success, dt = self.steps <= self.untrained_steps, self.task.success, self.task.dt
        return TrialRow(
            trial=self.episode,
            env_steps=self.steps,
            env_seconds=None if dt is None else self.steps * dt,
            ret=float(np.sum(np.array(self._rewards, np.float32), dtype=np.float64)),
            predicted_return=None,
            success=None if success is None else bool(success(np.stack(self._states), np)),
            model_nll=None,
            coverage_95_one_step=None,
            coverage_95_horizon=None,
            nan_rollouts=None,
            seconds_model=None if explored else 0.0,
            seconds_policy=None if explored else max(0.0, seconds - self._inside),
            seconds_env=seconds if explored else self._inside,
        )
