"""The sink that writes the event stream of a run as ``events.jsonl``: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dynapilco.tracking.details import Rollout, Spread
from dynapilco.tracking.pit import pit_counts, pit_of_counts
from dynapilco.tracking.sink import Sink, Trial
from dynapilco.tracking.summary import finite

EVENTS_FILE = "events.jsonl"
DIGITS = 6
"""Significant digits of the arrays: they are for looking at."""


class EventSink(Sink):
    """Appends what happens to ``events.jsonl``.

    It is a log: a resumed run adds to it, so a trial that was interrupted may begin twice.

    Parameters
    ----------
    run_dir : Path
        Nothing is written there before ``start``.
    """

    label = EVENTS_FILE

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / EVENTS_FILE
        self._waiting: list[str] = []
        self._started = False

    def start(self, config: dict[str, Any], trials: int) -> None:
        """The run begins, or goes on."""
        self._started = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if _is_torn(self.path):
            self._append("\n")
        self._write("start", trials=trials)
        for text in self._waiting:
            self.message(text)
        self._waiting = []

    def fitted(self, trial: int, metrics: dict[str, float]) -> None:
        """The model is fitted."""
        self._write("model", trial=trial, **metrics)

    def improved(self, trial: int, metrics: dict[str, float]) -> None:
        """The policy is found."""
        self._write("policy", trial=trial, **metrics)

    def trial(self, trial: Trial) -> None:
        """The trial is finished: its row, its calibration, what its columns are."""
        self._write("trial", **trial.row.cells(), **_details(trial))

    def message(self, text: str) -> None:
        """Something that a person should know; kept until ``start``."""
        if self._started:
            self._write("message", text=text)
        else:
            self._waiting.append(text)

    def finish(self, summary: dict[str, Any]) -> None:
        """The run is over."""
        self._write("finish", solved=summary.get("solved"), success_rate=summary.get("success_rate"))

    def _write(self, event: str, **values: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = finite({"event": event, "time": now, **values})
        self._append(json.dumps(record, allow_nan=False, default=_plain) + "\n")

    def _append(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)


def read_events(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The events of a run; a line that a crash cut short is left out."""
    path = run_dir / EVENTS_FILE
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def trial_details(event: dict[str, Any]) -> dict[str, Any]:
    """The ``pit`` and ``spread`` of a :class:`Trial` from its event."""
    found: dict[str, Any] = {}
    if event.get("pit") is not None:
        found["pit"] = pit_of_counts(event["pit"])
    if event.get("epistemic") is not None:
        epistemic, aleatoric = (np.array(event[name], dtype=float) for name in ("epistemic", "aleatoric"))  # null: NaN
        found["spread"] = Spread(epistemic, aleatoric, tuple(event["names"]), tuple(event["units"]))
    return found


def _details(trial: Trial) -> dict[str, Any]:
    found: dict[str, Any] = {} if trial.pit is None else {"pit": pit_counts(trial.pit)}
    told: Rollout | Spread | None = trial.rollout or trial.spread
    if told is not None:
        found |= {"names": told.names, "units": told.units}
    if trial.rollout is not None:
        found |= {"action_names": trial.rollout.action_names, "action_units": trial.rollout.action_units}
        found["dt"] = trial.rollout.dt
    if trial.spread is not None:
        found |= {"epistemic": _short(trial.spread.epistemic), "aleatoric": _short(trial.spread.aleatoric)}
    return found


def _short(values: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.{DIGITS}g}") for value in row] for row in values]


def _plain(value: Any) -> Any:
    """A numpy number as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not belong into an event")


def _is_torn(path: Path) -> bool:
    """Whether the file ends in the middle of a line, as after a crash."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"
