"""Partly observed systems: a state that stacks the last observations and actions.

    [o_t (d), o_{t-1}, ..., o_{t-k+1}, u_{t-1} (M), ..., u_{t-k+1}, learned (l)]

The model predicts the new observation (and what is learned) alone; the rest moves by a known shift. Before its first
step an episode remembers its first observation and actions at rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from dynapilco.core.errors import UserError
from dynapilco.dynamics.encoding import Geometry
from dynapilco.tasks.angles import Angles
from dynapilco.tasks.flat import ActionCodec, FlatEnv, Gauge

if TYPE_CHECKING:
    from dynapilco.tasks.task import StepFunction, Task


@dataclass(frozen=True)
class Stack:
    """Where what is remembered stands in a state. Arrays and tensors may have any leading axes.

    Attributes
    ----------
    length : int
        k, observations in a state.
    size, actions, learned : int
        d, M, l.
    rest : ndarray
        Action vector (M,) that is remembered before there was one: the middle of a box, no choice.
    """

    length: int
    size: int
    actions: int
    learned: int
    rest: np.ndarray

    @property
    def memory(self) -> int:
        """Columns that are remembered."""
        return (self.length - 1) * (self.size + self.actions)

    def first(self, observation: Any, xp: ModuleType) -> Any:
        """What is remembered (..., memory) at a first observation (..., d)."""
        rest = xp.zeros_like(observation[..., :1]) + self._rest(observation, xp)
        return xp.concatenate([observation] * (self.length - 1) + [rest] * (self.length - 1), -1)

    def _rest(self, like: Any, xp: ModuleType) -> Any:
        return self.rest if xp is np else xp.as_tensor(self.rest, device=like.device)

    def push(self, memory: Any, observation: Any, action: Any, xp: ModuleType) -> Any:
        """What is remembered one step later: the observation and the action, and not the oldest ones."""
        split = (self.length - 1) * self.size
        seen, done = memory[..., :split], memory[..., split:]
        parts = [observation, seen[..., : split - self.size], action, done[..., : done.shape[-1] - self.actions]]
        return xp.concatenate(parts, -1)

    def join(self, flat: Any, memory: Any, xp: ModuleType) -> Any:
        """A state (..., D) of a flat observation with what is learned (..., d + l)."""
        return xp.concatenate([flat[..., : self.size], memory, flat[..., self.size :]], -1)

    def episode(self, flat: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """The states (T+1, D) of an episode's flat observations (T+1, d + l) and actions (T, M)."""
        memory = self.first(flat[0, : self.size], np)
        states = [self.join(flat[0], memory, np)]
        for before, action, after in zip(flat[:-1], actions, flat[1:], strict=True):
            memory = self.push(memory, before[: self.size], action, np)
            states.append(self.join(after, memory, np))
        return np.stack(states)

    def last(self, state: Any, xp: ModuleType) -> Any:
        """The observation with what is learned (..., d + l) of a state."""
        seen = state[..., : self.size]
        return xp.concatenate([seen, state[..., self.size + self.memory :]], -1) if self.learned else seen


class StackedEnv(FlatEnv):
    """A :class:`FlatEnv` whose observations are stacks."""

    def __init__(
        self,
        env: Any,
        codec: ActionCodec,
        learned: tuple[str, ...],
        gauges: dict[str, Gauge],
        tell: Callable[[str], None],
        stack: Stack,
        angles: Angles | None = None,
    ) -> None:
        super().__init__(env, codec, learned, gauges, tell, angles)
        self.stack = stack

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """The first stack."""
        flat, info = super().reset(seed=seed, options=options)
        self._seen = flat[: self.stack.size]
        self._memory = self.stack.first(self._seen, np)
        return self.stack.join(flat, self._memory, np), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """The next stack."""
        flat, reward, terminated, truncated, info = super().step(action)
        self._memory = self.stack.push(self._memory, self._seen, action, np)
        self._seen = flat[: self.stack.size]
        return self.stack.join(flat, self._memory, np), reward, terminated, truncated, info


def with_history(task: Task, length: int) -> Task:
    """The task (that may hold angles already) with states of ``length`` observations and the actions between them.

    Raises
    ------
    UserError
        For a length below 1.
    """
    if length < 1:
        raise UserError(f"history={length!r}: expected 1 (no history) or more observations")
    if length == 1:
        return task
    geometry, learned = task.geometry, len(task.learned)
    size, actions = geometry.states - learned, geometry.actions
    rest = np.zeros(actions, np.float32) if task.codec.choices else (task.low + task.high) / 2
    stack = Stack(length, size, actions, learned, rest)

    def stacked(names: tuple[str, ...], action_names: tuple[str, ...], mark: Callable[[str, int], str]) -> Any:
        steps = range(1, length)
        then = [mark(name, step) for step in steps for name in names[:size]]
        then += [mark(name, step) for step in steps for name in action_names]
        return (*names[:size], *then, *names[size:])

    return replace(
        task,
        geometry=_geometry(geometry, stack),
        reward=_of_last(task.reward, stack),
        margin=None if task.margin is None else _of_last(task.margin, stack),
        names=stacked(task.names, task.action_names, lambda name, step: f"{name} {step} ago"),
        units=stacked(task.units, task.action_units, lambda unit, _: unit),
        stack=stack,
    )


def _geometry(geometry: Geometry, stack: Stack) -> Geometry:
    d, m, k = stack.size, stack.actions, stack.length
    split, memory, bounds = k * d, stack.memory, geometry.bounds
    past = [(c, c - d) for c in range(d, split)] + [(c, c - m) for c in range(split + m, d + memory)]
    return replace(
        geometry,
        states=geometry.states + memory,
        angles=tuple(lag * d + c for lag in range(k) for c in geometry.angles),
        unseen=tuple(c + memory for c in geometry.unseen),
        binary=tuple(c + memory for c in geometry.binary),
        past=tuple(past),
        past_actions=tuple((split + j, j) for j in range(m)),
        bounds=bounds and (*bounds[:d], *[(-np.inf, np.inf)] * memory, *bounds[d:]),
    )


def _of_last(function: StepFunction, stack: Stack) -> StepFunction:
    """A function of plain states, as one of stacks."""
    return lambda state, action, after, xp: function(stack.last(state, xp), action, stack.last(after, xp), xp)
