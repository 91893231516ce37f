"""What a trial was made of: its real transitions, and the spread of what was imagined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rollout:
    """The real transitions of a trial, in the order of time.

    Attributes
    ----------
    states, next_states : ndarray
        Observations before and after each step, (T, D).
    actions : ndarray
        (T, M), in the units of the environment.
    rewards : ndarray
        (T,).
    dt : float or None
        Seconds of a step; None where the environment has no clock.
    names, units : tuple of str
        Of the D state columns.
    action_names, action_units : tuple of str
    """

    states: np.ndarray
    next_states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    dt: float | None
    names: tuple[str, ...]
    units: tuple[str, ...]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """How far imagined particles lie apart along the horizon, and why.

    Attributes
    ----------
    epistemic : ndarray
        Standard deviation between the functions' mean states, (H+1, D), in the units of the state.
    aleatoric : ndarray
        Standard deviation of what is left: starts and noise, (H+1, D).
    names, units : tuple of str
        Of the D state columns.
    """

    epistemic: np.ndarray
    aleatoric: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]
