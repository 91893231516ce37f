"""Any environment with box observations, as one with flat vectors: what the learned model sees.

Actions of Discrete and MultiDiscrete spaces become one-hot columns. What has to be learned beside the motion (a reward,
the end of an episode, how far a hidden position moved) is appended to the observation, as columns about the step that
led to it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from dynapilco.core.errors import EnvironmentFault, UserError
from dynapilco.tasks.angles import Angles
from dynapilco.tasks.contract import Contract, number, warn

REWARD, ENDED = "reward", "ended"
"""Names of columns that may be appended."""
Gauge = Callable[[gymnasium.Env], float]
"""A number that the observation does not hold, as the position along a track; its change in a step is a column."""


@dataclass(frozen=True)
class ActionCodec:
    """Between actions of an environment and vectors (M,).

    Attributes
    ----------
    space : gymnasium.spaces.Space
        Box, Discrete or MultiDiscrete.
    choices : tuple of int
        Sizes of the one-hot groups; none for a box.
    low, high : ndarray
        Bounds of the vector, (M,); 0 and 1 for choices.
    """

    space: spaces.Space
    choices: tuple[int, ...]
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, space: spaces.Space) -> ActionCodec:
        """The codec of a space.

        Raises
        ------
        UserError
            For a space of another kind, and for a box without finite bounds.
        """
        if isinstance(space, spaces.Box):
            space = copy.deepcopy(space)  # its owner may go on writing to its bounds
            low, high = (np.asarray(bound, np.float32).reshape(-1) for bound in (space.low, space.high))
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise UserError(
                    f"action space {space} is unbounded: expected finite bounds, within which to explore; give it some "
                    "by gymnasium.wrappers.TransformAction(env, lambda action: action, gymnasium.spaces.Box(-limit, "
                    f"limit, {space.shape}))"
                )
            if not low.size or not np.issubdtype(space.dtype, np.floating):
                raise UserError(f"action space {space} is not supported: expected a Box of floating numbers")
            return cls(space, (), low, high)
        if isinstance(space, spaces.Discrete):
            choices = (int(space.n),)
        elif isinstance(space, spaces.MultiDiscrete):
            choices = tuple(int(n) for n in np.asarray(space.nvec).reshape(-1))
        else:
            raise UserError(f"action space {space} is not supported: expected Box, Discrete or MultiDiscrete")
        columns = sum(choices)
        return cls(space, choices, np.zeros(columns, np.float32), np.ones(columns, np.float32))

    @property
    def columns(self) -> int:
        """M."""
        return len(self.low)

    def canonical(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (..., M) as the environment takes them: clipped to the box, or one-hot at each group's largest."""
        if not self.choices:
            return np.clip(vectors, self.low, self.high)
        groups = np.split(vectors, np.cumsum(self.choices)[:-1], axis=-1)
        hot = [np.eye(n, dtype=np.float32)[group.argmax(-1)] for n, group in zip(self.choices, groups, strict=True)]
        return np.concatenate(hot, -1)

    def decode(self, vector: np.ndarray) -> Any:
        """The action of the environment that a vector (M,) stands for."""
        if isinstance(self.space, spaces.Box):
            action = np.asarray(vector, self.space.dtype).reshape(self.space.shape)
            return np.clip(action, self.space.low, self.space.high)
        picked = [int(group.argmax()) for group in np.split(vector, np.cumsum(self.choices)[:-1])]
        if isinstance(self.space, spaces.Discrete):
            return int(self.space.start) + picked[0]
        assert isinstance(self.space, spaces.MultiDiscrete)
        offset = np.asarray(self.space.start).reshape(-1)
        return (offset + picked).reshape(self.space.shape).astype(self.space.dtype)

    def encode(self, action: Any) -> np.ndarray:
        """The vector (M,) of an action; the inverse of :meth:`decode`."""
        if isinstance(self.space, spaces.Box):
            return np.asarray(action, np.float32).reshape(-1)
        return self.encode_all(np.asarray(action)[None])[0]

    def encode_all(self, actions: Any) -> np.ndarray:
        """The vectors (N, M) of N actions in one array (N, ...)."""
        if isinstance(self.space, spaces.Box):
            return np.asarray(actions, np.float32).reshape(len(actions), -1)
        start: Any = self.space.start  # pyright: ignore[reportAttributeAccessIssue]
        picked = (np.asarray(actions) - np.asarray(start)).reshape(len(actions), -1)
        if (picked < 0).any() or (picked >= self.choices).any():
            raise UserError(f"actions={actions!r}: expected choices of {self.space}")
        firsts = np.cumsum([0, *self.choices[:-1]])
        hot = np.zeros((len(picked), self.columns), np.float32)
        hot[np.arange(len(picked))[:, None], firsts + picked] = 1.0
        return hot


def observation_size(space: spaces.Space) -> int:
    """D of a flattened box of numbers.

    Raises
    ------
    UserError
        For pixels and for spaces that are not boxes, with advice.
    """
    if not isinstance(space, spaces.Box):
        advice = "wrap it in gymnasium.wrappers.FlattenObservation" if _flattens(space) else "expected a Box"
        raise UserError(f"observation space {space} is not supported: {advice}")
    if space.dtype == np.uint8 and len(space.shape) >= 2:
        raise UserError(
            f"observation space {space} holds pixels, which a dynamics model of few transitions cannot learn: "
            "expected a vector of numbers (positions, velocities, ...)"
        )
    size = int(np.prod(space.shape))
    if size < 1:
        raise UserError(f"observation space {space} is empty: expected at least one number")
    return size


def _flattens(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Dict | spaces.Tuple) and space.is_np_flattenable


class FlatEnv(gymnasium.Wrapper):
    """An environment with vectors on both sides.

    ``step`` takes a vector (M,) and returns the flattened observation with the columns ``learned`` appended: the reward
    of the step, and whether it ended the episode (not by a time limit).

    Parameters
    ----------
    env : gymnasium.Env
    codec : ActionCodec
    learned : tuple of str
        Names of gauges, ``"reward"``, ``"ended"``.
    gauges : mapping of str to callable, optional
        What each name measures on the unwrapped environment.
    tell : callable, optional
        Hears of what is odd and no error; a Python warning by default.
    angles : Angles, optional
        What observations given from here hold in the place of cosines and sines, unwrapped along an episode.

    Attributes
    ----------
    size : int
        Numbers of the environment's own observation.
    latest : ndarray
        The last one, flat (size,).
    """

    def __init__(
        self,
        env: gymnasium.Env,
        codec: ActionCodec,
        learned: tuple[str, ...] = (),
        gauges: Mapping[str, Gauge] | None = None,
        tell: Callable[[str], None] = warn,
        angles: Angles | None = None,
    ) -> None:
        super().__init__(env)
        self.codec, self.learned, self.gauges, self.angles = codec, learned, dict(gauges or {}), angles
        self.contract = Contract(env, tell)
        self.size = observation_size(env.observation_space)
        self._before: np.ndarray | None = None
        columns = self.size if angles is None else len(angles.columns)
        self.observation_space = spaces.Box(-np.inf, np.inf, (columns + len(learned),), np.float64)
        self.action_space = spaces.Box(codec.low, codec.high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A first observation; nothing was earned and nothing ended yet.

        Raises
        ------
        EnvironmentFault
        """
        observation, info = self.contract.reset(seed, options)
        flat = self._flat(observation, dict.fromkeys(self.learned, 0.0))
        return self._turned(flat, None), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step under the vector (M,).

        Raises
        ------
        EnvironmentFault
        """
        before = self._read()
        observation, reward, terminated, truncated, info = self.contract.step(self.codec.decode(action))
        moved = {name: value - before[name] for name, value in self._read().items()}
        flat = self._flat(observation, {REWARD: reward, ENDED: float(terminated), **moved})
        return self._turned(flat, self._before), reward, terminated, truncated, info

    def _turned(self, flat: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """A flat observation with angles for cosines and sines, which go on from those ``before``."""
        self.latest = flat[: self.size]
        if self.angles is None:
            return flat
        state = self.angles.encode(flat.astype(np.float64), np)
        state = state if before is None else self.angles.unwrap(state, before)
        self._before = state
        return state

    def _read(self) -> dict[str, float]:
        return {name: self._gauge(name, gauge) for name, gauge in self.gauges.items()}

    def _gauge(self, name: str, gauge: Gauge) -> float:
        try:
            value = gauge(self.env.unwrapped)
        except Exception as error:  # whatever somebody's function raises
            raise EnvironmentFault(f"the gauge {name!r} raised {type(error).__name__}: {error}") from error
        return number(f"gauge {name!r}:", value)

    def _flat(self, observation: np.ndarray, values: dict[str, float]) -> np.ndarray:
        if not self.learned:
            return observation
        return np.concatenate([observation, [values[name] for name in self.learned]]).astype(np.float64)
