"""Find angles that an environment shows as a cosine and a sine without saying so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dynapilco.tasks.angles import TURN

TOLERANCE = 1e-5
"""How far the squares of a cosine and a sine may be from adding up to 1, by rounding."""
MOVES = 1e-3
"""Range that each square must have: columns that hardly move may add up to 1 by chance."""
AGREES = 0.2
"""Root mean square of what a velocity misses of an angle's changes, relative to that of the changes. A velocity column
that an environment advances before the angle misses half a step's change of velocity."""
LEAST = 20
"""Transitions below which no velocity is looked for: a few may agree by chance."""


@dataclass(frozen=True)
class Found:
    """An angle that was found.

    Attributes
    ----------
    cos, sin : int
        Observation columns.
    velocity : int or None
        The column whose mean over a step, times its seconds, is the angle's change; None where there is none.
    misses : float or None
        Share of the angle's changes (root mean square) that the velocity does not explain.
    """

    cos: int
    sin: int
    velocity: int | None = None
    misses: float | None = None

    @property
    def columns(self) -> tuple[int, ...]:
        """(cosine, sine) or (cosine, sine, velocity)."""
        return (self.cos, self.sin) if self.velocity is None else (self.cos, self.sin, self.velocity)


def find_angles(
    before: np.ndarray,
    after: np.ndarray,
    dt: float | None,
    starts: np.ndarray | None = None,
    taken: frozenset[int] = frozenset(),
) -> tuple[Found, ...]:
    """Look for angles in visited transitions.

    Two columns are a cosine and a sine when their squares add up to 1 (within 1e-5) in every observation, and move, and
    are not always 0 and 1 in turn, as the two columns of a one-hot choice.
    Which is which is left open by that; a velocity tells it, else the first is taken for the cosine.

    Parameters
    ----------
    before, after : ndarray
        Observations (N, d) before and after each step.
    dt : float or None
        Seconds a step; None: no velocity is looked for.
    starts : ndarray, optional
        First observations (K, d) that must fit, too.
    taken : frozenset of int
        Columns that are known to be something else.
    """
    rows = np.concatenate([before, after, *([] if starts is None else [starts])]).astype(np.float64)
    found, used = [], set(taken)
    for first, second in _circles(rows):
        if {first, second} & used:
            continue
        used |= {first, second}
        found.append((first, second))
    angles = []
    for first, second in found:
        angle = _with_velocity(before.astype(np.float64), after.astype(np.float64), first, second, dt, used)
        used |= set(angle.columns)
        angles.append(angle)
    return tuple(angles)


def _circles(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of columns of (N, d) whose squares add up to 1."""
    squares = rows**2
    moving = np.flatnonzero(np.ptp(squares, axis=0) >= MOVES) if len(rows) else np.zeros(0, int)
    for place, first in enumerate(moving):
        others = moving[place + 1 :]
        off = np.abs(squares[:, [first]] + squares[:, others] - 1).max(0, initial=0.0)
        between = (squares[:, [first]] * squares[:, others]).max(0, initial=0.0) >= MOVES / 10  # else a switch
        yield from ((int(first), int(second)) for second in others[(off <= TOLERANCE) & between])


def _with_velocity(
    before: np.ndarray, after: np.ndarray, first: int, second: int, dt: float | None, used: set[int]
) -> Found:
    """The angle of two columns, in the order that some column is the velocity of, if any is."""
    best = Found(first, second)
    if dt is None or len(before) < LEAST:
        return best
    free = [c for c in range(before.shape[1]) if c not in used]
    for cos, sin in ((first, second), (second, first)):
        turned = _wrapped(np.arctan2(after[:, sin], after[:, cos]) - np.arctan2(before[:, sin], before[:, cos]))
        size = float(np.sqrt(np.mean(turned**2)))
        for column in free if size > 0 else ():
            led = dt * (before[:, column] + after[:, column]) / 2
            misses = float(np.sqrt(np.mean(_wrapped(turned - led) ** 2))) / size
            if misses <= min(AGREES, AGREES if best.misses is None else best.misses):
                best = Found(cos, sin, column, misses)
    return best


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return angle - TURN * np.round(angle / TURN)
