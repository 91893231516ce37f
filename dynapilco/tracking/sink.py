"""What the agent tells the outside world, and the interface that hears it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from dynapilco.core.errors import UserError
from dynapilco.tracking.details import Rollout, Spread


@dataclass(frozen=True)
class TrialRow:
    """One row of ``progress.csv``; ``None`` (an empty cell) where a value has no meaning yet.

    Columns may be appended, never renamed.
    """

    trial: int
    env_steps: int
    env_seconds: float | None
    ret: float
    predicted_return: float | None
    success: bool | None
    model_nll: float | None
    coverage_95_one_step: float | None
    coverage_95_horizon: float | None
    nan_rollouts: int | None
    seconds_model: float | None
    seconds_policy: float | None
    seconds_env: float
    ended_by: str | None = None
    disagreements: int | None = None
    lost_candidates: int | None = None
    crps_one_step: float | None = None
    sharpness_one_step: float | None = None
    nll_horizon: float | None = None
    crps_horizon: float | None = None
    sharpness_horizon: float | None = None
    end_brier: float | None = None
    value_error: float | None = None

    @property
    def explored(self) -> bool:
        """Whether the trial came before there was a model; a planner's trial has a model and no predicted return."""
        return self.seconds_model is None

    def cells(self) -> dict[str, Any]:
        """Column name -> value, in the order of the file (the field ``ret`` is the column ``return``)."""
        return {_column(f.name): getattr(self, f.name) for f in fields(self)}

    def numbers(self) -> dict[str, float]:
        """Column name -> value, of those that are numbers and have one: what a chart can show."""
        return {n: float(v) for n, v in self.cells().items() if v is not None and not isinstance(v, str)}

    @classmethod
    def columns(cls) -> list[str]:
        """Header of ``progress.csv``."""
        return [_column(f.name) for f in fields(cls)]


TIME_COLUMNS = ("seconds_model", "seconds_policy", "seconds_env")


def _column(field: str) -> str:
    return "return" if field == "ret" else field


@dataclass(frozen=True)
class Fan:
    """What the model predicted for a trial, beside what happened.

    Attributes
    ----------
    seconds : ndarray
        Time of each state, (T+1,), in seconds (in steps when the environment has no ``dt``).
    predicted : ndarray
        Particle states, (K, H+1, D), NaN rows where a particle was lost; H is below T where rollouts are shorter than
        the trial.
    observed : ndarray
        Real observations, (T+1, D).
    names, units : tuple of str
        Of the D state columns.
    actions : ndarray
        Real actions, (T, M).
    action_names, action_units : tuple of str
    """

    seconds: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]
    actions: np.ndarray
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]


@dataclass(frozen=True)
class Pit:
    """Where each real transition fell in its one-step prediction, made before the model saw it.

    Attributes
    ----------
    values : ndarray
        Probability integral transform, (T, O): the predictive probability of a smaller value; uniform on [0, 1] for a
        calibrated model.
    names : tuple of str
        The state column that each of the O outputs moves.
    """

    values: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes
    ----------
    row : TrialRow
    fan : Fan or None
        None for exploration, where nothing was predicted.
    frames : list of ndarray
        Pictures (H, W, 3) uint8 of the episode, empty when none were recorded.
    pit : Pit or None
        None for exploration, where there was no model.
    rollout : Rollout or None
        What happened; None where it is not known (any more).
    spread : Spread or None
        None where nothing was predicted.
    fault : UserError or None
        Why the learning ends after this trial, which is kept.
    """

    row: TrialRow
    fan: Fan | None
    frames: list[np.ndarray]
    pit: Pit | None = None
    rollout: Rollout | None = None
    spread: Spread | None = None
    fault: UserError | None = None


class Sink:
    """Hears a run. Every method does nothing here, so a sink overrides what it cares for.

    A run goes on when a sink fails (``tracking.guard``), unless the sink keeps what the run itself is.
    """

    label: ClassVar[str] = ""
    """What messages call it; the name of the class by default."""
    required: ClassVar[bool] = False
    """Whether a failure ends the run."""
    remedy: str = ""
    """What a person can do about a failure, as the end of a sentence."""

    def start(self, config: dict[str, Any], trials: int) -> None:
        """The run begins (or goes on): resolved configuration, and the number of trials planned in all."""

    def progress(self, trial: int, phase: str, done: int, total: int, metrics: dict[str, float]) -> None:
        """Work in ``phase`` (``"model"``, ``"policy"``, ``"environment"``) is ``done`` of ``total``.

        ``metrics`` holds e.g. ``potential`` (model) or ``predicted_return`` (policy).
        """

    def fitted(self, trial: int, metrics: dict[str, float]) -> None:
        """The model is fitted to all data before ``trial``: ``steps``, ``potential``, ``diverged``."""

    def improved(self, trial: int, metrics: dict[str, float]) -> None:
        """The policy of ``trial`` is found: ``predicted_return``, ``bad_rollouts``, ``restarts``, ``lost``."""

    def trial(self, trial: Trial) -> None:
        """A trial is finished, its rollout recorded, and its checkpoint is on disk."""

    def message(self, text: str) -> None:
        """Something a person should know (numbers gone bad and recovered from, a fallback in use)."""

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is over."""

    def close(self) -> None:
        """Release whatever is held; called also after an error or Ctrl-C."""
