"""Angles that an environment shows as a cosine and a sine: a state that holds the angle itself.

An observation [.., cos, .., sin, ..] becomes [.., angle, ..]: the angle stands in the place of the first of the two
columns, and the second is left out. Along an episode it is unwrapped: it never jumps by a turn. Networks and policies
still see its sine and cosine (:class:`~dynapilco.dynamics.encoding.Geometry`); what is imagined stays on the circle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from dynapilco.core.errors import UserError

if TYPE_CHECKING:
    from dynapilco.dynamics.encoding import Geometry
    from dynapilco.tasks.task import StepFunction, Task

TURN = 2 * math.pi
QUARTER = math.pi / 2
FREE = (-math.inf, math.inf)
GATHERED = 0.5
"""Mean resultant length from which on starts count as gathered about one direction."""
Pairs = Sequence[Sequence[int]]
"""Of each angle (cosine column, sine column) or (cosine column, sine column, column of its velocity)."""


@dataclass(frozen=True)
class Circle:
    """Where an observation shows an angle.

    Attributes
    ----------
    cos, sin : int
        Columns of the observation.
    velocity : int or None
        The column that holds the angle's derivative (rad/s), where there is one.
    origin : float
        Of the half turns on both sides of it (rad) an episode's first angle is taken: where episodes mostly begin, so
        that first angles which lie close to each other are close as numbers.
    """

    cos: int
    sin: int
    velocity: int | None = None
    origin: float = 0.0


@dataclass(frozen=True)
class Angles:
    """Between observations that hold cosines and sines, and states that hold the angles.

    Arrays and tensors may have any leading axes, and columns after the observation's, which pass through.

    Attributes
    ----------
    circles : tuple of Circle
    size : int
        d, numbers of an observation; a state has one less for each circle.
    dt : float or None
        Seconds a step.
    """

    circles: tuple[Circle, ...]
    size: int
    dt: float | None = None

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Observation column that stands in each state column; of an angle, the first of its two."""
        gone = {max(circle.cos, circle.sin) for circle in self.circles}
        return tuple(c for c in range(self.size) if c not in gone)

    @cached_property
    def places(self) -> tuple[int, ...]:
        """State column of each circle's angle."""
        return tuple(self.columns.index(min(circle.cos, circle.sin)) for circle in self.circles)

    def place(self, column: int) -> int:
        """State column of an observation column that is no cosine and no sine."""
        return self.columns.index(column)

    def encode(self, observation: Any, xp: ModuleType) -> Any:
        """States (..., d - A + rest) of observations (..., d + rest), angles within half a turn of their origins."""
        rest = range(self.size, observation.shape[-1])
        state = observation[..., [*self.columns, *rest]]
        for circle, place in zip(self.circles, self.places, strict=True):
            angle = xp.arctan2(observation[..., circle.sin], observation[..., circle.cos])
            state[..., place] = angle + TURN * xp.round((circle.origin - angle) / TURN)
        return state

    def unwrap(self, state: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The state (D,) with angles that go on from those of the state one step before.

        Of all angles that a cosine and a sine may mean, the nearest one to where the velocity leads, (v + v') dt / 2;
        without one, the nearest to the last angle.
        """
        state = state.copy()
        for circle, place in zip(self.circles, self.places, strict=True):
            expected = before[place]
            if circle.velocity is not None and self.dt is not None:
                speed = self.place(circle.velocity)
                expected = expected + self.dt * (before[speed] + state[speed]) / 2
            state[place] += TURN * np.round((expected - state[place]) / TURN)
        return state

    def episode(self, observations: np.ndarray) -> np.ndarray:
        """The states (T+1, D) of an episode's observations (T+1, d + rest)."""
        states = list(self.encode(observations.astype(np.float64), np))
        for t in range(1, len(states)):
            states[t] = self.unwrap(states[t], states[t - 1])
        return np.stack(states)

    def decode(self, state: Any, xp: ModuleType) -> Any:
        """Observations (..., d + rest) of states (..., d - A + rest); the inverse of :meth:`encode`."""
        angles = [state[..., place : place + 1] for place in self.places]
        parts = []
        for kind, first, end in self._pieces:
            parts.append(state[..., first:end] if kind == "keep" else getattr(xp, kind)(angles[first]))
        return xp.concatenate([*parts, state[..., len(self.columns) :]], -1)

    @cached_property
    def _pieces(self) -> tuple[tuple[str, int, int], ...]:
        """An observation from left to right: ("keep", first, end) of state columns, or ("cos" or "sin", circle, -1)."""
        roles = {circle.cos: ("cos", a, -1) for a, circle in enumerate(self.circles)}
        roles |= {circle.sin: ("sin", a, -1) for a, circle in enumerate(self.circles)}
        pieces: list[tuple[str, int, int]] = []
        for c in range(self.size):
            if c in roles:
                pieces.append(roles[c])
            elif pieces and pieces[-1][0] == "keep":
                pieces[-1] = ("keep", pieces[-1][1], self.place(c) + 1)
            else:
                pieces.append(("keep", self.place(c), self.place(c) + 1))
        return tuple(pieces)


def parse_pairs(text: str) -> tuple[tuple[int, ...], ...]:
    """Columns of angles from a text: "0,1" (cosine, sine) or "0,1,2" (and velocity), with spaces between angles.

    Raises
    ------
    UserError
        For any other text.
    """
    try:
        pairs = tuple(tuple(int(c) for c in part.split(",")) for part in text.split())
    except ValueError:
        pairs = ()
    if not pairs or any(len(pair) not in (2, 3) for pair in pairs):
        raise _no_columns(text)
    return pairs


def pairs_text(pairs: Any) -> str:
    """The text that :func:`parse_pairs` reads, of pairs of columns; a text as it is.

    Raises
    ------
    UserError
        For anything else.
    """
    try:
        return pairs if isinstance(pairs, str) else " ".join(",".join(map(str, pair)) for pair in pairs)
    except TypeError as error:  # no sequence of sequences
        raise _no_columns(pairs) from error


def _no_columns(given: Any) -> UserError:
    return UserError(
        f"angles={given!r}: expected 'auto', 'declared', 'off', or observation columns: 'cosine,sine' or "
        "'cosine,sine,velocity' of each angle, as '0,1,2' or '0,1 2,3' (in Python also [(0, 1), (2, 3)])"
    )


def with_angles(task: Task, pairs: Pairs) -> Task:
    """The task with states that hold angles in the place of their cosines and sines.

    Functions of a step go on seeing the environment's observations, rebuilt from the states.

    Parameters
    ----------
    task : Task
        As :func:`~dynapilco.tasks.task_of` gives it.
    pairs : sequence of (int, int) or (int, int, int)
        Observation columns (cosine, sine) or (cosine, sine, velocity) of each angle; none leaves the task as it is.

    Raises
    ------
    UserError
        For columns that are not there, or that mean something else already.
    """
    if not pairs:
        return task
    size, geometry = task.size, task.geometry
    _check(pairs, size, geometry)
    first = np.asarray(task.start_mean if task.starts is None else task.starts.mean(0), np.float64)
    circles = tuple(
        Circle(pair[0], pair[1], pair[2] if len(pair) == 3 else None, _origin(first[pair[0]], first[pair[1]]))
        for pair in pairs
    )
    angles = Angles(circles, size, geometry.dt)
    names, units = _labels(task.names, task.units, angles)
    return replace(
        task,
        geometry=_geometry(geometry, angles),
        reward=_of_observations(task.reward, angles),
        margin=None if task.margin is None else _of_observations(task.margin, angles),
        names=names,
        units=units,
        angles=angles,
    )


def _check(pairs: Pairs, size: int, geometry: Geometry) -> None:
    shown = f"cos_sin_pairs={[tuple(pair) for pair in pairs]}"
    if any(len(pair) not in (2, 3) or any(not 0 <= c < size for c in pair) for pair in pairs):
        raise UserError(
            f"{shown}: expected (cosine, sine) or (cosine, sine, velocity) columns of an observation, 0..{size - 1}"
        )
    taken = [c for pair in pairs for c in pair]
    if len(set(taken)) != len(taken):
        raise UserError(f"{shown}: a column can stand for one thing only")
    paired = {c for pair in geometry.pairs for c in pair}
    if set(taken) & ({*geometry.angles} | paired):
        raise UserError(f"{shown}: these columns are in angle_indices or position_velocity_pairs as well")


def _origin(cos: float, sin: float) -> float:
    """The quarter turn about which starts gather whose mean cosine and sine these are; 0 where they do not."""
    return QUARTER * round(math.atan2(sin, cos) / QUARTER) if math.hypot(cos, sin) > GATHERED else 0.0


def _geometry(geometry: Geometry, angles: Angles) -> Geometry:
    place, gone = angles.place, len(angles.circles)
    turning = zip(angles.places, angles.circles, strict=True)
    pairs = [(place(p), place(v)) for p, v in geometry.pairs]
    pairs += [(at, place(circle.velocity)) for at, circle in turning if circle.velocity is not None]
    return replace(
        geometry,
        states=geometry.states - gone,
        angles=tuple(sorted([*angles.places, *(place(c) for c in geometry.angles)])),
        pairs=tuple(sorted(pairs)),
        unseen=tuple(c - gone for c in geometry.unseen),
        binary=tuple(c - gone for c in geometry.binary),
        bounds=_bounds(geometry.bounds, angles),
    )


def _bounds(bounds: tuple[tuple[float, float], ...], angles: Angles) -> tuple[tuple[float, float], ...]:
    """What the environment states of the columns of a state: nothing of its angles."""
    if not bounds:
        return ()
    kept = [FREE if c in angles.places else bounds[column] for c, column in enumerate(angles.columns)]
    found = (*kept, *bounds[angles.size :])
    return found if any(bound != FREE for bound in found) else ()


def _labels(names: tuple[str, ...], units: tuple[str, ...], angles: Angles) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of a state's columns."""
    new, unit = ([texts[c] for c in angles.columns] for texts in (names, units))
    for circle, place in zip(angles.circles, angles.places, strict=True):
        new[place], unit[place] = angle_name(names[circle.cos], names[circle.sin]), "rad"
    return (*new, *names[angles.size :]), (*unit, *units[angles.size :])


def angle_name(cos: str, sin: str) -> str:
    """What an angle is called, of the names of its cosine and its sine: theta of cos(theta) and sin(theta)."""
    inner = cos.removeprefix("cos(").removesuffix(")")
    return inner if (cos, sin) == (f"cos({inner})", f"sin({inner})") else f"angle of {cos} {sin}"


def _of_observations(function: StepFunction, angles: Angles) -> StepFunction:
    """A function of observations, as one of states."""

    def of_states(state: Any, action: Any, after: Any, xp: ModuleType) -> Any:
        return function(angles.decode(state, xp), action, angles.decode(after, xp), xp)

    return of_states
