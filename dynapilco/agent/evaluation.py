"""Fresh episodes that judge a policy and touch nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np

from dynapilco.agent.context import env_seed
from dynapilco.agent.episode import Controller, run_episode
from dynapilco.agent.watch import succeeded
from dynapilco.core.errors import UserError
from dynapilco.tasks import Task
from dynapilco.tasks.contract import warn


@dataclass(frozen=True)
class Evaluation:
    """Results of fresh episodes.

    Attributes
    ----------
    returns : list of float
    successes : list of bool or None
        None where the task has no success rule.
    """

    returns: list[float]
    successes: list[bool] | None

    @property
    def success_rate(self) -> float | None:
        """Share of successful episodes."""
        return None if self.successes is None else float(np.mean(self.successes))


def evaluate(
    env: gymnasium.Env,
    task: Task,
    controller: Controller,
    seed: int,
    episodes: int,
    tell: Callable[[str], None] = warn,
) -> Evaluation:
    """Run ``episodes`` episodes with reset seeds derived from ``seed``, the same ones at every call.

    ``tell`` hears of what is odd about the environment and no error; a Python warning by default.

    Raises
    ------
    UserError
        When ``episodes`` is below 1.
    EnvironmentFault
        When the environment misbehaves: half an episode judges nothing.
    FunctionFault
        When the success rule fails.
    """
    if episodes < 1:
        raise UserError(f"episodes={episodes!r}: expected at least 1")
    returns, successes, flat = [], [], task.flat(env, tell)
    for index in range(episodes):
        episode = run_episode(flat, controller, env_seed(seed, "evaluation", index), task.horizon)
        if episode.fault is not None:
            raise episode.fault
        returns.append(float(episode.rewards.sum(dtype=np.float64)))
        successes.append(succeeded(task, episode))
    return Evaluation(returns, successes if task.success is not None else None)
