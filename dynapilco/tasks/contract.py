"""What somebody's ``reset`` and ``step`` give, checked: numbers that are finite, of the shape that is promised."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from numbers import Number
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from dynapilco.core.errors import EnvironmentFault

LARGEST = float(np.finfo(np.float32).max)
"""Transitions are kept as float32: a number beyond it would not stay finite."""
SLACK = 1e-5
"""How far, relative to a bound (to 1 where that is larger), rounding may lead outside of a box."""
RESET = "reset(self, *, seed=None, options=None)"


def warn(text: str) -> None:
    """Tell by a Python warning."""
    warnings.warn(text, stacklevel=2)


class Contract:
    """The spaces that an environment had at first, and whether it keeps to them.

    Parameters
    ----------
    env : gymnasium.Env
        With a Box of observations.
    tell : callable
        Hears, once, of an observation outside of its box.
    """

    def __init__(self, env: gymnasium.Env, tell: Callable[[str], None] = warn) -> None:
        self.env, self.tell = env, tell
        self.promised = {name: copy.deepcopy(getattr(env, name)) for name in ("observation_space", "action_space")}
        self.seen = {name: getattr(env, name) for name in self.promised}
        space = self.promised["observation_space"]
        assert isinstance(space, spaces.Box)
        self.shape = space.shape
        low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
        self.low, self.high = low - _slack(low), high + _slack(high)
        self._told = False

    # -- calls --------------------------------------------------------------------------------------------------

    def reset(self, seed: int | None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset; the observation is a flat copy (D,).

        Raises
        ------
        EnvironmentFault
            When it raises or gives anything but (observation, info).
        """
        keywords: dict[str, Any] = {"seed": seed} if options is None else {"seed": seed, "options": options}
        result = self._call("reset", lambda: self.env.reset(**keywords))
        self._check_spaces(wholly=True)
        if not isinstance(result, tuple) or len(result) != 2:
            raise EnvironmentFault(f"reset returned {shown(result)}: expected (observation, info) of {RESET}")
        return self.observation(result[0]), _info(result[1])

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step; the observation is a flat copy (D,).

        Raises
        ------
        EnvironmentFault
            When it raises or gives anything but (observation, reward, terminated, truncated, info).
        """
        result: Any = self._call("step", lambda: self.env.step(action))
        self._check_spaces(wholly=False)
        if not isinstance(result, tuple) or len(result) != 5:
            wanted = "expected (observation, reward, terminated, truncated, info)"
            raise EnvironmentFault(f"step returned {shown(result)}: {wanted}")
        observation, reward, terminated, truncated, info = result
        return (
            self.observation(observation),
            number("reward", reward),
            _flag("terminated", terminated),
            _flag("truncated", truncated),
            _info(info),
        )

    def _call(self, name: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:  # whatever somebody's environment raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            advice = f"; expected {RESET}" if isinstance(error, TypeError) and name == "reset" else ""
            raise EnvironmentFault(f"{name} raised {reason}{advice}") from error

    # -- values -------------------------------------------------------------------------------------------------

    def observation(self, raw: Any) -> np.ndarray:
        """A flat copy (D,) of finite numbers: an environment may go on writing to its array."""
        try:
            values = np.array(raw)
        except (TypeError, ValueError) as error:  # rows of several lengths
            raise EnvironmentFault(f"observation {shown(raw)}: expected an array {self.shape}") from error
        numeric = np.issubdtype(values.dtype, np.number) and not np.iscomplexobj(values)
        if values.shape != self.shape or not (numeric or values.dtype == np.bool_):
            raise EnvironmentFault(
                f"observation {shown(raw)} has the shape {values.shape} and the type {values.dtype}: expected numbers "
                f"of the shape {self.shape}"
            )
        flat = values.reshape(-1)
        if not (np.abs(flat) <= LARGEST).all():
            raise EnvironmentFault(f"non-finite observation {flat.tolist()}")
        if not self._told and ((flat < self.low) | (flat > self.high)).any():
            self._told = True
            column = int(np.argmax((flat < self.low) | (flat > self.high)))
            box = self.promised["observation_space"]
            low, high = (float(bound.reshape(-1)[column]) for bound in (box.low, box.high))
            self.tell(
                f"the environment gave an observation outside of its own box: column {column} is {float(flat[column])} "
                f"and should lie in [{low}, {high}], in {flat.tolist()}; it is used as it is (said once)"
            )
        return flat

    def _check_spaces(self, wholly: bool) -> None:
        """Compare the spaces; not ``wholly``: only where they are other objects than before."""
        for name, promised in self.promised.items():
            now = getattr(self.env, name)
            if (wholly or now is not self.seen[name]) and not _same(now, promised):
                raise EnvironmentFault(f"its {name} changed from {promised} to {now}")
            self.seen[name] = now


def number(name: str, raw: Any) -> float:
    """A finite number; an array of one number is taken for it.

    Raises
    ------
    EnvironmentFault
    """
    value = raw.reshape(-1)[0] if isinstance(raw, np.ndarray) and raw.size == 1 else raw
    if not isinstance(value, Number | np.generic) or isinstance(value, complex | np.character | np.complexfloating):
        raise EnvironmentFault(f"{name} {shown(raw)}: expected a number")
    found = float(value)  # pyright: ignore[reportArgumentType]
    if not abs(found) <= LARGEST:
        raise EnvironmentFault(f"non-finite {name} {found}")
    return found


def _flag(name: str, raw: Any) -> bool:
    value = raw.reshape(-1)[0] if isinstance(raw, np.ndarray) and raw.size == 1 else raw
    if isinstance(value, bool | np.bool_) or (isinstance(value, int | np.integer) and value in (0, 1)):
        return bool(value)
    raise EnvironmentFault(f"{name} {shown(raw)}: expected True or False")


def _info(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise EnvironmentFault(f"info {shown(raw)}: expected a dict")
    return raw


def _slack(bound: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(bound), SLACK * np.maximum(1, np.abs(bound)), 0)


def _same(now: Any, promised: spaces.Space) -> bool:
    """Equal spaces; of boxes also the dtype, which a Box does not compare."""
    return now == promised and getattr(now, "dtype", None) == promised.dtype


def shown(raw: Any) -> str:
    """A value in at most about a line."""
    text = " ".join(repr(raw).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
