"""Of a comparison's many runs, one for each method and task to look at closely, and the PIT counts of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dynapilco.core.errors import UserError
from dynapilco.report.reading.beliefs import read_beliefs
from dynapilco.report.reading.comparison import Comparison
from dynapilco.report.reading.run import Run, read_run
from dynapilco.tracking.fans import beliefs_files

MOST_FAN_BYTES = 16_000_000
"""Of all fans of a page together."""


@dataclass(frozen=True)
class Example:
    """The run of a method on a task whose score is the median of its seeds (the lower one of two)."""

    task: str
    method: str
    seed: int
    seeds: int
    run: Run


def examples(data: Comparison, notes: list[str]) -> list[Example]:
    """One for each task and method that has a run which can be read; the fans stay below ``MOST_FAN_BYTES``."""
    found, room = [], MOST_FAN_BYTES
    for task in data.tasks:
        for method in data.methods:
            done = data.runs_of(task, method)
            for row in _from_the_middle(done):
                run = _read(data, row, notes)
                if run is None:
                    continue
                size = sum(path.stat().st_size for path in beliefs_files(run.folder).values())
                if size > room:
                    notes.append(
                        f"the fans of {method} on {task} are left out: the page holds {MOST_FAN_BYTES / 1e6:.0f} MB"
                    )
                    run.beliefs.clear()
                else:
                    room -= size
                found.append(Example(task, method, row["seed"], len(done), run))
                break
    return found


def _from_the_middle(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Runs by how near their rank is to the median's, so that there is another where one cannot be read."""
    ranked = sorted(rows, key=lambda row: (row["score"] if row["score"] is not None else float("-inf"), row["seed"]))
    middle = (len(ranked) - 1) // 2
    yield from (ranked[k] for k in sorted(range(len(ranked)), key=lambda k: abs(k - middle)))


def _read(data: Comparison, row: dict[str, Any], notes: list[str]) -> Run | None:
    folder = data.run_dir(row)
    if not folder.is_dir():
        notes.append(f"{folder.relative_to(data.folder)} is missing: no predictions and no video of that run")
        return None
    try:
        run = read_run(folder)
    except UserError as error:
        notes.append(str(error))
        return None
    notes += [f"{folder.relative_to(data.folder)}: {note}" for note in run.notes if "command.txt" not in note]
    return run


def pit_counts(data: Comparison, task: str) -> dict[str, list[dict[str, Any]]]:
    """Method -> the PIT counts of every trial of every seed on a task."""
    trials: dict[tuple[str, int], list[int]] = {}
    for row in data.trials:
        if row["task"] == task:
            trials.setdefault((row["method"], row["seed"]), []).append(row["trial"])
    found: dict[str, list[dict[str, Any]]] = {}
    for (method, seed), numbers in trials.items():
        documents = read_beliefs(data.run_dir({"task": task, "method": method, "seed": seed}), numbers, [])
        found.setdefault(method, []).extend(d["pit"] for d in documents.values() if d["pit"])
    return found
