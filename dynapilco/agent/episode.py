"""One real episode: step the environment, keep everything, find bad numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from dynapilco.core.errors import UserError
from dynapilco.dynamics import Transitions
from dynapilco.tasks import FlatEnv

Controller = Callable[[np.ndarray, int], np.ndarray]
"""(observation (D,), step) -> action (M,)."""

OnStep = Callable[[int, bool, dict[str, Any]], bool]
"""(steps done, whether the episode ended, info) -> whether to go on."""


@dataclass(frozen=True)
class Episode:
    """What happened.

    Attributes
    ----------
    observations : ndarray
        (T+1, D), with the columns that are learned beside the motion.
    states : ndarray
        True states, without those columns; the observations where the environment hides its state.
    actions : ndarray
        (T, M), as the environment took them.
    rewards : ndarray
        (T,).
    frames : list of ndarray
    complete : bool
        Whether the episode came to its end; False when ``on_step`` stopped it before.
    """

    observations: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    frames: list[np.ndarray]
    complete: bool

    def transitions(self, trial: int) -> Transitions:
        """The rows that the model learns from."""
        observations, actions, rewards = (
            torch.as_tensor(array, dtype=torch.float32) for array in (self.observations, self.actions, self.rewards)
        )
        return Transitions.of_episode(observations, actions, rewards, trial)


def run_episode(
    env: FlatEnv,
    controller: Controller,
    seed: int,
    horizon: int,
    *,
    record: bool = False,
    on_step: OnStep | None = None,
) -> Episode:
    """Reset with ``seed`` and act until the episode ends, at the latest after ``horizon`` steps.

    Parameters
    ----------
    on_step : callable, optional
        ``on_step(steps done, ended, info)`` after each step; returning False stops the episode.

    Raises
    ------
    UserError
        When an observation or a reward is not finite; the message names the step and the value.
    """
    observation = env.reset(seed=seed)[0]
    observations, states, actions, rewards = [observation], [_state(env, observation)], [], []
    frames = [_picture(env)] if record else []
    ended, go_on = False, True
    while go_on and not ended:
        action = env.codec.canonical(controller(observation, len(actions)))
        observation, reward, terminated, truncated, info = env.step(action)
        _check(len(actions), observation, reward)
        observations.append(observation)
        states.append(_state(env, observation))
        actions.append(action)
        rewards.append(float(reward))
        if record:
            frames.append(_picture(env))
        ended = bool(terminated or truncated) or len(actions) >= horizon
        go_on = on_step is None or on_step(len(actions), ended, info)
    return Episode(
        np.stack(observations),
        np.stack(states),
        np.stack(actions),
        np.array(rewards, np.float32),
        [frame for frame in frames if frame is not None],
        ended,
    )


def _picture(env: gymnasium.Env) -> np.ndarray | None:
    """A frame, or None with a warning: a renderer that fails must not cost the episode."""
    try:
        return np.asarray(env.render())
    except Exception as error:  # whatever a display or a driver raises
        warnings.warn(f"rendering failed, the frame is left out: {error!r}", stacklevel=2)
        return None


def _state(env: FlatEnv, observation: np.ndarray) -> np.ndarray:
    return true_state(env, observation[: len(observation) - len(env.learned)])


def true_state(env: gymnasium.Env, observation: np.ndarray) -> np.ndarray:
    """The environment's own state where it shows one of the shape of a flat observation (D,), else the observation."""
    state = getattr(env.unwrapped, "state", None)
    usable = isinstance(state, np.ndarray) and state.shape == observation.shape
    return np.array(state if usable else observation, dtype=np.float64)


def _check(step: int, observation: np.ndarray, reward: Any) -> None:
    if not np.isfinite(observation).all():
        raise UserError(f"the environment returned a non-finite observation at step {step}: {observation.tolist()}")
    if not np.isfinite(float(reward)):
        raise UserError(f"the environment returned a non-finite reward at step {step}: {reward!r}")
