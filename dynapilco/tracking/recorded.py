"""A finished run, read back from its folder as the trials that its sinks heard of."""

from __future__ import annotations

import csv
import json
import types
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from dynapilco.core.errors import UserError
from dynapilco.core.storage import STATE_FILE, read_fields, read_tensors
from dynapilco.tracking.details import Rollout
from dynapilco.tracking.events import read_events, trial_details
from dynapilco.tracking.run_dir import CHECKPOINT_FOLDER, PROGRESS_FILE
from dynapilco.tracking.sink import Sink, Trial, TrialRow


def read_progress(run_dir: Path) -> list[TrialRow]:
    """The rows of ``progress.csv``, exactly as they were written.

    Raises
    ------
    UserError
        When the file is missing, or a line cannot be read: the message names the line.
    """
    path = run_dir / PROGRESS_FILE
    if not path.is_file():
        raise UserError(f"run_dir={str(run_dir)!r} holds no {PROGRESS_FILE}: expected the folder of a run")
    hints = get_type_hints(TrialRow)
    columns = dict(zip(TrialRow.columns(), [f.name for f in fields(TrialRow)], strict=True))
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        known = {c: name for c, name in columns.items() if c in (reader.fieldnames or ()) or not _optional(hints[name])}
        unknown = dict.fromkeys(columns[c] for c in columns if c not in known)  # of an older version
        for number, cells in enumerate(reader, start=2):
            try:
                values = {name: _value(cells[c], hints[name]) for c, name in known.items()}
                rows.append(TrialRow(**unknown, **values))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"line {number} of {str(path)!r} cannot be read: {error!r}") from error
    return rows


@dataclass(frozen=True)
class Recorded:
    """Trials of the past, to be told again.

    Attributes
    ----------
    trials : list of Trial
        Pictures and videos stay files of the folder: ``fan`` is None and ``frames`` are empty.
    metrics : dict
        (``"model"`` or ``"policy"``, trial) -> what was said when the model was fitted or the policy found.
    """

    trials: list[Trial] = field(default_factory=list)
    metrics: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    @property
    def env_steps(self) -> int:
        """Environment steps of the past."""
        return self.trials[-1].row.env_steps if self.trials else 0

    def tell(self, sink: Sink) -> None:
        """Tell a sink all of it, in the order in which it happened."""
        for trial in self.trials:
            number = trial.row.trial
            for event, hear in (("model", sink.fitted), ("policy", sink.improved)):
                if (event, number) in self.metrics:
                    hear(number, self.metrics[event, number])
            sink.trial(trial)


def read_recorded(run_dir: Path, rows: Sequence[TrialRow]) -> Recorded:
    """The trials of ``rows`` with what the folder still holds about them: transitions, calibration, spread.

    Raises
    ------
    CheckpointError
        When there is a checkpoint that cannot be read.
    """
    events: dict[tuple[str, int], dict[str, Any]] = {}
    for event in read_events(run_dir):  # of a trial that was begun twice, the last counts
        events[event.get("event", ""), event.get("trial", -1)] = event
    tensors, trials = _tensors(run_dir / CHECKPOINT_FOLDER), []
    newest = next((events[key] for key in sorted(events, reverse=True) if key[0] == "trial"), {})
    for row in rows:
        event = events.get(("trial", row.trial), {})
        rollout = _rollout(tensors, row.trial, event, newest)
        trials.append(Trial(row, None, [], rollout=rollout, **trial_details(event)))
    metrics = {key: _metrics(event) for key, event in events.items() if key[0] in ("model", "policy")}
    return Recorded(trials, metrics)


def _metrics(event: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in event.items() if k not in ("event", "time", "trial") and v is not None}


def _tensors(folder: Path) -> dict[str, Any]:
    return read_tensors(folder, read_fields(folder)) if (folder / STATE_FILE).is_file() else {}


def _rollout(tensors: dict[str, Any], trial: int, event: dict[str, Any], newest: dict[str, Any]) -> Rollout | None:
    """Transitions of a trial; where angles were found after it they are of other columns than it told, the newest's."""
    if "data/trials" not in tensors:
        return None
    chosen = tensors["data/trials"] == trial
    states, following, actions, rewards = (
        tensors[f"data/{name}"][chosen].numpy() for name in ("states", "next_states", "actions", "rewards")
    )
    if not len(rewards):
        return None
    told = event if len(event.get("names", ())) == states.shape[1] else newest
    names, units = _named(told, "names", "units", "state", states.shape[1])
    action_names, action_units = _named(event, "action_names", "action_units", "action", actions.shape[1])
    return Rollout(
        states, following, actions, rewards, event.get("dt"), names, units, action_names, action_units
    )  # fmt: skip


def _named(event: dict[str, Any], names: str, units: str, kind: str, count: int) -> tuple[tuple[str, ...], ...]:
    """Names and units of columns; numbers where the events do not know them."""
    known, their_units = tuple(event.get(names, ())), tuple(event.get(units, ()))
    if len(known) == len(their_units) == count:
        return known, their_units
    return tuple(f"{kind} {k}" for k in range(count)), ("",) * count


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _optional(hint: Any) -> bool:
    return types.NoneType in _kinds(hint)


def _value(cell: str, hint: Any) -> Any:
    if cell == "" and _optional(hint):
        return None
    kind = _kinds(hint)[0]
    return json.loads(cell) if kind is bool else kind(cell)
