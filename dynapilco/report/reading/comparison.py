"""The folder of a comparison, read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynapilco.core.errors import UserError
from dynapilco.report.reading.documents import read_json
from dynapilco.report.reading.run import COLUMNS as PROGRESS_COLUMNS
from dynapilco.report.reading.run import LATER_COLUMNS
from dynapilco.report.reading.tables import Table, boolean, integer, number, read_table, text

SETTINGS_FILE, RUNS_FILE, TRIALS_FILE = "compare.json", "runs.csv", "trials.csv"
KEYS = {"task": text, "method": text, "seed": integer}
RUN_COLUMNS = {
    **KEYS, "status": text, "score": number, "success_rate": number, "first_success_trial": integer, "trials": integer,
    "env_steps": integer, "wall_seconds": number, "peak_memory_mb": number, "error": text,
}  # fmt: skip
TRIAL_COLUMNS = {**KEYS, **PROGRESS_COLUMNS, "explored": boolean}
DONE, FAILED = "done", "failed"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """What the folder of a comparison holds.

    Attributes
    ----------
    folder : Path
    settings : dict
        ``compare.json``; empty where it is missing.
    runs, trials : list of dict
        Rows of the two tables, with values; None for empty cells. At least one run is done or has trials.
    notes : list of str
        What a reader should know: missing files, lines left out, runs that failed.
    """

    folder: Path
    settings: dict[str, Any]
    runs: Rows
    trials: Rows
    notes: list[str]

    @property
    def tasks(self) -> list[str]:
        """In the order of the table."""
        return list(dict.fromkeys(run["task"] for run in self.runs))

    @property
    def methods(self) -> list[str]:
        """In the order of the table."""
        return list(dict.fromkeys(run["method"] for run in self.runs))

    def runs_of(self, task: str, method: str, status: str | None = DONE) -> Rows:
        """Runs of a method on a task; None for every status."""
        wanted = (r for r in self.runs if r["task"] == task and r["method"] == method)
        return [r for r in wanted if status is None or r["status"] == status]

    def run_dir(self, run: dict[str, Any]) -> Path:
        """The run directory of a row."""
        slug = run["task"].replace("/", "-").replace(":", "-")
        method = run["method"].replace("/", "-")
        return self.folder / "runs" / slug / method / f"seed-{run['seed']}"


def is_comparison(folder: Path) -> bool:
    """Whether a folder looks like that of a comparison."""
    return (folder / SETTINGS_FILE).is_file() or (folder / RUNS_FILE).is_file()


def read_comparison(folder: Path) -> Comparison:
    """Read the folder of a comparison.

    Raises
    ------
    UserError
        Where no run has a finished trial, a table is missing or cannot be read, or a row stands there twice.
    """
    runs = _read(folder / RUNS_FILE, RUN_COLUMNS, tuple(KEYS))
    trials = _read(folder / TRIALS_FILE, TRIAL_COLUMNS, (*KEYS, "trial"), LATER_COLUMNS)
    for row in trials.rows:
        row |= dict.fromkeys(name for name in LATER_COLUMNS if name not in row)
    if not trials.rows:
        raise UserError(f"{str(folder)!r} has no finished trial yet: {TRIALS_FILE} has no rows")
    notes = [*runs.notes, *trials.notes]
    if not (folder / SETTINGS_FILE).is_file():
        notes.append(f"{SETTINGS_FILE} is missing: the command that made the comparison is not known")
    settings = read_json(folder / SETTINGS_FILE, notes) or {}
    notes += _strays(runs.rows, trials.rows)
    return Comparison(folder, settings, runs.rows, trials.rows, notes)


def _read(path: Path, columns: dict[str, Any], keys: Sequence[str], optional: dict[str, Any] | None = None) -> Table:
    if not path.is_file():
        raise UserError(f"{str(path.parent)!r} has no finished run yet: {path.name} is missing")
    table = read_table(path, columns, optional)
    seen: dict[tuple[Any, ...], int] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        empty = [name for name in keys if row[name] is None]
        if empty:
            raise UserError(f"{str(path)!r}, line {line}: {empty[0]} is empty")
        key = tuple(row[name] for name in keys)
        if key in seen:
            what = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
            raise UserError(f"{str(path)!r}, line {line}: {what} stands in line {seen[key]} too: expected each once")
        seen[key] = line
    return table


def _strays(runs: Rows, trials: Rows) -> list[str]:
    """Trials of runs that the table of runs does not have."""
    known = {(r["task"], r["method"], r["seed"]) for r in runs}
    strays = {(t["task"], t["method"], t["seed"]) for t in trials} - known
    names = [f"{task} {method} seed {seed}" for task, method, seed in sorted(strays)]
    return (
        [f"{TRIALS_FILE} holds trials of runs that {RUNS_FILE} does not have: {'; '.join(names[:5])}"] if names else []
    )
