"""``fans/trial-NNN.json``, checked: what the model believed of each trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dynapilco.report.reading.documents import read_json
from dynapilco.tracking.fans import FORMAT, beliefs_file, beliefs_files

TEXTS, NUMBERS = ("names", "units", "action_names", "action_units"), ("quantiles", "samples", "observed", "actions")


def read_beliefs(run_dir: Path, trials: Iterable[int], notes: list[str]) -> dict[int, dict[str, Any]]:
    """Trial -> the document of its file, for the trials asked for.

    A file that is damaged or of another format is left out with a note.
    """
    there = beliefs_files(run_dir)
    found = {}
    for trial in trials:
        if trial not in there:
            continue
        document = read_json(there[trial], notes)
        if document is None:
            continue
        problem = _problem(document, trial)
        if problem:
            notes.append(f"{beliefs_file(Path(), trial)} is left out: {problem}")
        else:
            found[trial] = document
    return found


def _problem(document: dict[str, Any], trial: int) -> str | None:
    """What is wrong with a document; the page's script relies on its shape."""
    if document.get("format") != FORMAT:
        return f"its format is {document.get('format')!r}, expected {FORMAT}"
    if document.get("trial") != trial:
        return f"it is of trial {document.get('trial')!r}"
    fan, pit = document.get("fan"), document.get("pit")
    if fan is not None and not _is_fan(fan):
        return "its fan is damaged"
    if pit is not None and not _is_pit(pit):
        return "its PIT counts are damaged"
    return None


def _is_fan(fan: Any) -> bool:
    if (
        not isinstance(fan, dict)
        or not _list_of(fan.get("times"), _is_number)
        or fan.get("clock") not in ("s", "steps")
    ):
        return False
    if not all(_list_of(fan.get(name), lambda cell: isinstance(cell, str)) for name in TEXTS):
        return False
    if not all(_is_numbers(fan.get(name)) for name in NUMBERS) or not isinstance(fan.get("particles"), int):
        return False
    states, actions = len(fan["names"]), len(fan["action_names"])
    shapes = [len(fan["units"]) == states, len(fan["action_units"]) == actions, len(fan["actions"]) == actions]
    return all(shapes) and all(len(fan[name]) == states for name in ("quantiles", "samples", "observed"))


def _is_pit(pit: Any) -> bool:
    if not isinstance(pit, dict) or not _list_of(pit.get("names"), lambda cell: isinstance(cell, str)):
        return False
    counts = pit.get("counts")
    if not isinstance(counts, list) or not all(_list_of(row, lambda cell: isinstance(cell, int)) for row in counts):
        return False
    return len(counts) == len(pit["names"]) and len({len(row) for row in counts}) <= 1


def _is_numbers(value: Any) -> bool:
    """Whether it is nested lists of numbers and nulls."""
    return isinstance(value, list) and all(v is None or _is_number(v) or _is_numbers(v) for v in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list_of(value: Any, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(check(cell) for cell in value)
