"""One real episode: step the environment, and keep everything, also of an episode that breaks in the middle."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from dynapilco.core.errors import EnvironmentFault
from dynapilco.dynamics import Transitions
from dynapilco.tasks import FlatEnv
from dynapilco.tasks.reading import env_name

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
        (T+1, D), as states of the task hold them: with the columns that are learned beside the motion, with angles in
        the place of cosines and sines where the task has them.
    states : ndarray
        True states (T+1, d), without all that; the environment's own observations where it hides its state.
    actions : ndarray
        (T, M), as the environment took them.
    rewards : ndarray
        (T,).
    frames : list of ndarray
    complete : bool
        Whether the episode came to its end; False when ``on_step`` stopped it before.
    terminated : bool
        Whether the environment ended it, not a time limit nor a fault.
    fault : EnvironmentFault or None
        What broke the episode off; all that is here happened before it and is sound.
    """

    observations: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    frames: list[np.ndarray]
    complete: bool
    terminated: bool = False
    fault: EnvironmentFault | None = None

    @property
    def ended_by(self) -> str:
        """``"error"``, ``"termination"`` or ``"time limit"``."""
        if self.fault is not None:
            return "error"
        return "termination" if self.terminated else "time limit"

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

    An environment that raises or gives what it must not (numbers that are not finite, other shapes) breaks the episode
    off: the steps before are kept, and ``fault`` says what happened.

    Parameters
    ----------
    on_step : callable, optional
        ``on_step(steps done, ended, info)`` after each step; returning False stops the episode.

    Raises
    ------
    EnvironmentFault
        When nothing can be kept, as nothing was sound before the fault; the message names the step and the values.
    """
    try:
        observation = env.reset(seed=seed)[0]
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{_name(env)} at reset: {fault}") from fault
    tape = _Tape(env, observation, record)
    while True:
        action = env.codec.canonical(controller(observation, tape.steps))
        try:
            observation, reward, terminated, truncated, info = _step(env, action, tape.steps)
        except EnvironmentFault as fault:
            if not tape.steps:
                raise
            return tape.episode(complete=True, fault=fault)
        tape.add(observation, action, reward)
        ended = terminated or truncated or tape.steps >= horizon
        stopped = on_step is not None and not on_step(tape.steps, ended, info)
        if ended or stopped:
            return tape.episode(complete=ended, terminated=terminated)


class _Tape:
    """What was recorded so far.

    Parameters
    ----------
    env : FlatEnv
    observation : ndarray
        The first one.
    record : bool
        Whether to take pictures.
    """

    def __init__(self, env: FlatEnv, observation: np.ndarray, record: bool) -> None:
        self.env, self.record = env, record
        self.observations, self.states = [observation], [_state(env)]
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []
        self.frames = [_picture(env)] if record else []

    @property
    def steps(self) -> int:
        return len(self.actions)

    def add(self, observation: np.ndarray, action: np.ndarray, reward: float) -> None:
        """Record a step."""
        self.observations.append(observation)
        self.states.append(_state(self.env))
        self.actions.append(action)
        self.rewards.append(reward)
        if self.record:
            self.frames.append(_picture(self.env))

    def episode(self, complete: bool, terminated: bool = False, fault: EnvironmentFault | None = None) -> Episode:
        """All of it, as arrays."""
        return Episode(
            np.stack(self.observations),
            np.stack(self.states),
            np.stack(self.actions),
            np.array(self.rewards, np.float32),
            [frame for frame in self.frames if frame is not None],
            complete,
            terminated,
            fault,
        )


def _step(env: FlatEnv, action: np.ndarray, step: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """One step; a fault names the step and the action. An action that is not finite is not sent."""
    if not np.isfinite(action).all():
        raise EnvironmentFault(
            f"{_name(env)} at step {step}: the action {action.tolist()} is not finite: it was not sent"
        )
    try:
        return env.step(action)
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{_name(env)} at step {step} under the action {action.tolist()}: {fault}") from fault


def _name(env: FlatEnv) -> str:
    return f"environment {env_name(env.env)!r}"


def _picture(env: gymnasium.Env) -> np.ndarray | None:
    """A frame, or None with a warning: a renderer that fails must not cost the episode."""
    try:
        return np.asarray(env.render())
    except Exception as error:  # whatever a display or a driver raises
        warnings.warn(f"rendering failed, the frame is left out: {error!r}", stacklevel=2)
        return None


def _state(env: FlatEnv) -> np.ndarray:
    return true_state(env, env.latest)


def true_state(env: gymnasium.Env, observation: np.ndarray) -> np.ndarray:
    """The environment's own state where it shows one of the shape of a flat observation (D,), else the observation."""
    state = getattr(env.unwrapped, "state", None)
    usable = isinstance(state, np.ndarray) and state.shape == observation.shape
    return np.array(state if usable else observation, dtype=np.float64)
