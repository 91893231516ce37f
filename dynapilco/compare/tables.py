"""The tidy tables of a comparison: ``runs.csv``, a row for each run, and ``trials.csv``, a row for each trial.

Where pyarrow is installed the same tables are there as Parquet too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dynapilco.compare import parquet
from dynapilco.compare.folder import RUNS_FILE, TRIALS_FILE, Folder, Job
from dynapilco.compare.watch import error_line
from dynapilco.core.atomic import write_atomically
from dynapilco.core.errors import UserError, unknown_name
from dynapilco.tracking.sink import TrialRow
from dynapilco.tracking.summary import read_summary

KEYS = {"task": "text", "method": "text", "seed": "integer"}
RUN_COLUMNS = {
    **KEYS, "status": "status", "score": "number", "success_rate": "number", "first_success_trial": "number",
    "trials": "integer", "env_steps": "integer", "wall_seconds": "number", "peak_memory_mb": "number", "error": "text",
}  # fmt: skip
TRIAL_COLUMNS = {
    **KEYS, "trial": "integer", "env_steps": "integer", "env_seconds": "number", "return": "number",
    "predicted_return": "number", "success": "maybe", "explored": "truth", "model_nll": "number",
    "coverage_95_one_step": "number", "coverage_95_horizon": "number", "nan_rollouts": "number",
    "seconds_model": "number", "seconds_policy": "number", "seconds_env": "number", "crps_one_step": "number",
    "sharpness_one_step": "number", "nll_horizon": "number", "crps_horizon": "number", "sharpness_horizon": "number",
}  # fmt: skip
LATER = ("crps_one_step", "sharpness_one_step", "nll_horizon", "crps_horizon", "sharpness_horizon")
"""Columns that tables of earlier versions do not have: empty there."""
"""Column -> kind. An empty cell is a missing number or truth (NaN, NA) where the kind allows it."""
CLOCK_COLUMNS = ("wall_seconds", "peak_memory_mb", "seconds_model", "seconds_policy", "seconds_env")
"""What differs between two runs of one seed."""
STATUSES = ("done", "failed", "missing")


def collect(folder: Folder, jobs: Sequence[Job]) -> None:
    """Write both tables anew from the run directories, in the order of ``jobs``.

    Raises
    ------
    UserError
        For a ``progress.csv`` that cannot be read: the message names the file and the line.
    """
    runs, trials = [], []
    for job in jobs:
        rows = read_progress(folder.run_dir(job) / "progress.csv")
        keys = {"task": job.task, "method": job.method, "seed": job.seed}
        trials += [{**keys, **row, "explored": "true" if row["seconds_model"] == "" else "false"} for row in rows]
        runs.append({**keys, **_run(folder, job, rows)})
    write_atomically(folder.root / TRIALS_FILE, _csv(TRIAL_COLUMNS, trials))
    write_atomically(folder.root / RUNS_FILE, _csv(RUN_COLUMNS, runs))
    parquet.beside(folder.root, load)


def _run(folder: Folder, job: Job, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    state, summary = folder.state(job), read_summary(folder.run_dir(job)) or {}
    done = folder.is_done(job)
    status = "done" if done else "failed" if state.get("status") == "failed" else "missing"
    found: dict[str, Any] = {
        "status": status,
        "trials": len(rows),
        "env_steps": int(rows[-1]["env_steps"]) if rows else 0,
        "peak_memory_mb": state.get("peak_memory_mb"),
        "error": error_line(folder, job) if status == "failed" else "",
    }
    if done:
        found["score"] = float(np.mean([np.nan if r is None else r for r in summary["evaluation_returns"]]))
        found |= {name: summary[name] for name in ("success_rate", "first_success_trial", "wall_seconds")}
    return found


def read_progress(path: Path) -> list[dict[str, str]]:
    """The rows of a ``progress.csv`` as they are written, each cell checked; none where there is no file.

    Raises
    ------
    UserError
        Naming the file and the line that cannot be read.
    """
    if not path.is_file():
        return []
    kinds = {name: kind for name, kind in TRIAL_COLUMNS.items() if name in TrialRow.columns()}
    return [row for row, _ in _rows(path, kinds)]


def load(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of a comparison.

    Parameters
    ----------
    folder : path
        What ``dynapilco compare --out`` or :func:`save` wrote. CSV is read where both are there.

    Returns
    -------
    runs, trials : DataFrame
        One row a run, one row a trial. Numbers are float64 (NaN where a cell is empty), counts int64, ``explored``
        bool, ``success`` pandas' boolean with NA.

    Raises
    ------
    UserError
        For a missing file, and for a line that cannot be read or comes twice: the message names file and line.
    """
    root = Path(folder)
    runs = _frame(root / RUNS_FILE, RUN_COLUMNS, tuple(KEYS))
    return runs, _frame(root / TRIALS_FILE, TRIAL_COLUMNS, (*KEYS, "trial"))


def save(
    runs: pd.DataFrame, trials: pd.DataFrame, folder: str | Path, *, format: str = "csv", force: bool = False
) -> list[Path]:
    """Write the two tables to a folder, as :func:`load` reads them.

    Parameters
    ----------
    runs, trials : DataFrame
    folder : path
    format : {"csv", "parquet"}
        Parquet needs pyarrow: ``pip install 'dynapilco[parquet]'``.
    force : bool
        Replace files that are there.

    Returns
    -------
    list of Path

    Raises
    ------
    UserError
        For another format, a missing pyarrow, tables without a column or with a cell that is not what it must be, and
        files that would be overwritten.
    """
    if format not in ("csv", "parquet"):
        raise unknown_name("format", format, ("csv", "parquet"))
    root, texts = Path(folder), dict[Path, str | bytes]()
    for name, frame, kinds in ((RUNS_FILE, runs, RUN_COLUMNS), (TRIALS_FILE, trials, TRIAL_COLUMNS)):
        checked = _checked(frame, kinds, f"{name.partition('.')[0]}: the table")
        path = root / name if format == "csv" else (root / name).with_suffix(parquet.SUFFIX)
        texts[path] = _csv(kinds, [_cells(row) for row in checked.to_dict("records")]) if format == "csv" else (
            parquet.content(checked))  # fmt: skip
        if path.exists() and not force:
            raise UserError(f"{str(path)!r} exists: expected another folder, or force=True to replace it")
    for path, text in texts.items():
        write_atomically(path, text)
    return list(texts)


def _cells(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row as ``progress.csv`` writes it."""
    found = {str(name): None if pd.isna(value) else value for name, value in row.items()}
    return {n: str(v).lower() if isinstance(v, bool | np.bool_) else v for n, v in found.items()}


def _frame(path: Path, kinds: Mapping[str, str], keys: tuple[str, ...]) -> pd.DataFrame:
    other = path.with_suffix(parquet.SUFFIX)
    if not path.is_file() and other.is_file():
        return _checked(parquet.read(other), kinds, repr(str(other)))
    if not path.is_file():
        raise UserError(f"{str(path)!r} does not exist: expected the folder of a comparison")
    seen: dict[tuple[Any, ...], int] = {}
    rows = []
    for number, (_, values) in enumerate(_rows(path, kinds), 2):
        key = tuple(values[name] for name in keys)
        if key in seen:
            what = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
            raise UserError(f"{str(path)!r}, line {number}: {what} stands in line {seen[key]} too: expected each once")
        seen[key] = number
        rows.append(values)
    return _typed(pd.DataFrame(rows, columns=list(kinds)), kinds)


TYPES = {"integer": "int64", "number": "float64", "truth": "bool", "maybe": "boolean"}


def _typed(frame: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    return frame.astype({name: TYPES[kind] for name, kind in kinds.items() if kind in TYPES})


def _checked(frame: pd.DataFrame, kinds: Mapping[str, str], what: str) -> pd.DataFrame:
    """A table that no CSV reader has checked: its columns in order, of their types, each key once."""
    missing = [name for name in kinds if name not in frame and name not in LATER]
    if missing:
        raise UserError(f"{what} has no column {', '.join(missing)}: expected the table of a comparison")
    frame = frame.reindex(columns=list(kinds)).reset_index(drop=True)
    if "error" in frame:
        frame["error"] = frame["error"].fillna("")
    for name, kind in kinds.items():
        try:
            frame[name] = frame[name].astype(TYPES[kind]) if kind in TYPES else frame[name]
        except (TypeError, ValueError) as error:
            raise UserError(f"{what}: {name} is not {READERS[kind][1]} in every row ({error})") from error
    odd = [status for column in frame.columns.intersection(["status"]) for status in frame[column]]
    odd = [status for status in odd if status not in STATUSES]
    if odd:
        raise UserError(f"{what}: status={odd[0]!r}: expected {READERS['status'][1]}")
    keys = [name for name in (*KEYS, "trial") if name in kinds and not (name == "trial" and "status" in kinds)]
    double = frame[frame.duplicated(keys)]
    if len(double):
        first = ", ".join(f"{name} {double.iloc[0][name]}" for name in keys)
        raise UserError(f"{what} has {first} more than once: expected each once")
    return frame


def _rows(path: Path, kinds: Mapping[str, str]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Each line as it is written and as values; columns that are not asked for are left out."""
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True)
        header = next(reader, [])
        missing = [name for name in kinds if name not in header and name not in LATER]
        if missing:
            raise UserError(f"{str(path)!r}, line 1: no column {', '.join(missing)}: expected the table of a run")
        for cells in reader:
            if len(cells) != len(header):
                raise UserError(
                    f"{str(path)!r}, line {reader.line_num}: {len(cells)} cells: expected {len(header)}, as in line 1"
                )
            row = dict.fromkeys((name for name in LATER if name in kinds), "")
            row |= {name: cell for name, cell in zip(header, cells, strict=True) if name in kinds}
            yield row, {name: _value(path, reader.line_num, name, row[name], kind) for name, kind in kinds.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read as a table ({error}): expected UTF-8 and commas") from error


def _truth(cell: str) -> bool:
    return {"true": True, "false": False}[cell]


READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "text": (str, "a text"),
    "integer": (int, "an integer"),
    "number": (lambda cell: float(cell) if cell else np.nan, "a number or nothing"),
    "truth": (_truth, "true or false"),
    "maybe": (lambda cell: _truth(cell) if cell else None, "true, false or nothing"),
    "status": (lambda cell: STATUSES[STATUSES.index(cell)], " or ".join(STATUSES)),
}


def _value(path: Path, line: int, name: str, cell: str, kind: str) -> Any:
    read, expected = READERS[kind]
    try:
        return read(cell)
    except (ValueError, KeyError) as error:
        raise UserError(f"{str(path)!r}, line {line}: {name}={cell!r}: expected {expected}") from error


def _csv(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [row.get(name) for name in columns]
        writer.writerow(["" if v is None or v != v else repr(v) if isinstance(v, float) else v for v in values])
    return text.getvalue()
