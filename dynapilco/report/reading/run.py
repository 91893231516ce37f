"""A run directory, read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynapilco.core.errors import UserError
from dynapilco.report.reading.beliefs import read_beliefs
from dynapilco.report.reading.documents import read_commands, read_config, read_json
from dynapilco.report.reading.tables import Table, boolean, integer, number, read_table
from dynapilco.tracking.run_dir import CONFIG_FILE, PROGRESS_FILE
from dynapilco.tracking.sink import TrialRow
from dynapilco.tracking.summary import SUMMARY_FILE

COLUMNS = {
    "trial": integer, "env_steps": integer, "env_seconds": number, "return": number, "predicted_return": number,
    "success": boolean, "model_nll": number, "coverage_95_one_step": number, "coverage_95_horizon": number,
    "nan_rollouts": integer, "seconds_model": number, "seconds_policy": number, "seconds_env": number,
}  # fmt: skip
LATER_COLUMNS: dict[str, Any] = dict.fromkeys(
    ("crps_one_step", "sharpness_one_step", "nll_horizon", "crps_horizon", "sharpness_horizon"), number
)
"""Not there in files of earlier versions."""
NEEDED = ("trial", "env_steps", "return")
VIDEO_SUFFIXES = (".mp4", ".gif")


@dataclass(frozen=True)
class Run:
    """What a run directory holds.

    Attributes
    ----------
    folder : Path
    rows : list of TrialRow
        At least one.
    summary : dict or None
        None while the run goes on, and where it was stopped.
    config_text : str or None
        ``config.toml`` as it is.
    config : dict
    commands : list of str
    beliefs : dict of int to dict
        Trial -> what ``fans/`` holds of it.
    videos : list of Path
    notes : list of str
        What a reader should know: missing files, lines left out.
    """

    folder: Path
    rows: list[TrialRow]
    summary: dict[str, Any] | None
    config_text: str | None
    config: dict[str, Any]
    commands: list[str]
    beliefs: dict[int, dict[str, Any]]
    videos: list[Path]
    notes: list[str]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    def told(self, key: str, default: str = "?") -> str:
        """A word such as ``env_id`` from the configuration, else from the summary."""
        return str(self.config.get(key, (self.summary or {}).get(key, default)))


def is_run(folder: Path) -> bool:
    """Whether a folder looks like that of a run."""
    return (folder / PROGRESS_FILE).is_file() or (folder / CONFIG_FILE).is_file()


def read_run(folder: Path) -> Run:
    """Read a run directory.

    Raises
    ------
    UserError
        Where there is no finished trial, or ``progress.csv`` cannot be understood.
    """
    if not (folder / PROGRESS_FILE).is_file():
        raise UserError(f"{str(folder)!r} has no finished trial yet: {PROGRESS_FILE} is missing")
    table = read_table(
        folder / PROGRESS_FILE,
        {name: COLUMNS[name] for name in NEEDED},
        {name: reader for name, reader in COLUMNS.items() if name not in NEEDED} | LATER_COLUMNS,
    )
    notes = list(table.notes)
    rows = _trial_rows(table, folder / PROGRESS_FILE)
    if not rows:
        raise UserError(f"{str(folder)!r} has no finished trial yet: {PROGRESS_FILE} has no rows")
    summary = read_json(folder / SUMMARY_FILE, notes)
    config_text, config = read_config(folder, notes)
    commands = read_commands(folder, notes)
    beliefs = read_beliefs(folder, [row.trial for row in rows], notes)
    if summary is not None and summary.get("trials") != len(rows):
        notes.append(f"{SUMMARY_FILE} is of {summary.get('trials')} trials, {PROGRESS_FILE} of {len(rows)}: not used")
        summary = None
    return Run(folder, rows, summary, config_text, config, commands, beliefs, _videos(folder), notes)


def _trial_rows(table: Table, path: Path) -> list[TrialRow]:
    found: dict[int, TrialRow] = {}
    for line, cells in zip(table.lines, table.rows, strict=True):
        absent = [name for name in NEEDED if cells[name] is None]
        if absent:
            raise UserError(f"{str(path)!r}, line {line}: {absent[0]} is empty")
        values: dict[str, Any] = {name: cells.get(name) for name in (*COLUMNS, *LATER_COLUMNS) if name != "return"}
        values["seconds_env"] = values["seconds_env"] or 0.0
        row = TrialRow(ret=cells["return"], **values)
        if row.trial in found:
            raise UserError(f"{str(path)!r}, line {line}: trial {row.trial} stands there twice")
        found[row.trial] = row
    return [found[trial] for trial in sorted(found)]


def _videos(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "videos").glob("[!.]*") if path.suffix in VIDEO_SUFFIXES)
