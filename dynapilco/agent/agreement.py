"""Does a reward or an end that is taken as known say what the environment does?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from dynapilco.agent.episode import Episode
from dynapilco.core.errors import FunctionFault
from dynapilco.tasks import FlatEnv, StepFunction, Task
from dynapilco.tasks.flat import ENDED, REWARD

TOLERANCE = 1e-3
"""Relative to what was paid, or to what is paid on average in the episode where that is more."""
NEAR = 1e-3
"""A margin so near to 0 may fall on either side by rounding."""


@dataclass(frozen=True)
class Disagreement:
    """Steps of an episode at which the known functions and the environment differ.

    Attributes
    ----------
    steps : int
        How many.
    text : str
        The first of them, with both values, the state, the action and the next state; empty where there are none.
    """

    steps: int
    text: str


def disagreement(task: Task, env: FlatEnv, episode: Episode) -> Disagreement | None:
    """Compare known functions with an episode; None where nothing is known.

    Functions are tried on the observations and, where the environment shows its true state, on that: sensor noise is
    no disagreement. A step counts when it disagrees either way.

    Raises
    ------
    FunctionFault
        When a function raises, or gives anything but a number for each step.
    """
    knows_reward, knows_end = REWARD not in task.learned, ENDED not in task.learned
    if not (knows_reward or knows_end):
        return None
    views = [_view(episode, states) for states in _readings(env, episode)]
    nothing = np.zeros(len(episode.actions), bool)
    wrong_reward = _all_differ([_wrong_rewards(task, view, episode) for view in views]) if knows_reward else nothing
    wrong_end = _all_differ([_wrong_ends(task, view, episode) for view in views]) if knows_end else nothing
    wrong = wrong_reward | wrong_end
    if not wrong.any():
        return Disagreement(0, "")
    step = int(wrong.argmax())
    values = (
        _reward_text(task, views[0], episode, step) if wrong_reward[step] else _end_text(task, views[0], episode, step)
    )
    return Disagreement(int(wrong.sum()), f"at step {step} {values} ({_where(views[0], step)})")


View = tuple[Tensor, ...]
"""States (T, D), actions (T, M) and next states (T, D), float64."""


def _readings(env: FlatEnv, episode: Episode) -> list[np.ndarray]:
    """What functions may be functions of, (T+1, D) each: observations, and true states if nothing rescales them."""
    inner: Any = env.env
    while isinstance(inner, gymnasium.Wrapper):
        if isinstance(inner, gymnasium.ObservationWrapper):
            return [episode.observations]
        inner = inner.env
    states = episode.states if env.angles is None else env.angles.encode(episode.states, np)
    return [episode.observations, np.concatenate([states, episode.observations[:, states.shape[1] :]], 1)]


def _view(episode: Episode, states: np.ndarray) -> View:
    x = torch.as_tensor(states, dtype=torch.float64)
    return x[:-1], torch.as_tensor(episode.actions, dtype=torch.float64), x[1:]


def _all_differ(each: list[np.ndarray]) -> np.ndarray:
    return np.logical_and.reduce(each)


def _wrong_rewards(task: Task, view: View, episode: Episode) -> np.ndarray:
    known, paid = _rewards(task, view), episode.rewards.astype(np.float64)
    scale = np.maximum(np.abs(paid), np.abs(paid).mean())
    return ~(np.abs(known - paid) <= TOLERANCE * scale + 1e-9)  # also where the known one is not a number


def _rewards(task: Task, view: View) -> np.ndarray:
    return _called("reward", task.reward, view)


def _margins(task: Task, view: View) -> np.ndarray:
    if task.margin is None:
        return np.ones(len(view[1]))
    return _called("margin (or terminated)", task.margin, view)


def _called(title: str, function: StepFunction, view: View) -> np.ndarray:
    """Values (T,) of a known function; of one that fails the first step is sought at which it fails."""
    try:
        return _values(function, view)
    except Exception as error:  # whatever somebody's function raises
        for step in range(len(view[1])):
            one = tuple(part[step : step + 1] for part in view)
            try:
                _values(function, one)
            except Exception as here:
                raise FunctionFault(
                    f"the known {title} fails at step {step}: {_reason(here)} ({_where(one, 0)})"
                ) from here
        count = len(view[1])
        raise FunctionFault(
            f"the known {title} fails on {count} steps at once, and not on each: {_reason(error)}"
        ) from error


def _values(function: StepFunction, view: View) -> np.ndarray:
    state, action, after = view
    values = function(state, action, after, torch)
    if not isinstance(values, Tensor) or values.shape != view[1].shape[:1]:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"it gives {got}, expected a tensor ({len(view[1])},)")
    return values.detach().numpy()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _wrong_ends(task: Task, view: View, episode: Episode) -> np.ndarray:
    margins = _margins(task, view)
    ended = np.zeros(len(margins), bool)
    ended[-1] = episode.terminated
    return ((margins <= 0) != ended) & ~(np.abs(margins) <= NEAR)


def _reward_text(task: Task, view: View, episode: Episode, step: int) -> str:
    return f"the known reward is {_rewards(task, view)[step]:.6g} and the environment paid {episode.rewards[step]:.6g}"


def _end_text(task: Task, view: View, episode: Episode, step: int) -> str:
    ended = episode.terminated and step == len(episode.actions) - 1
    what = "the environment ended the episode" if ended else "the environment went on"
    if task.margin is None:
        return f"{what} and no end is known (a margin says when episodes end)"
    return f"the known margin is {_margins(task, view)[step]:.6g} and {what}"


def _where(view: View, step: int) -> str:
    state, action, after = (_short(part[step].tolist()) for part in view)
    return f"state {state}, action {action}, next state {after}"


def _short(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"
