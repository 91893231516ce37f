"""The folder of a comparison: what lies where, who may write to it, and whether it may be gone on with."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynapilco.core.atomic import write_atomically
from dynapilco.core.errors import UserError

SETTINGS_FILE, RUNS_FILE, TRIALS_FILE = "compare.json", "runs.csv", "trials.csv"
RUNS, JOBS, STATISTICS, LOCK = "runs", "jobs", "statistics", ".lock"
PARQUET_FILES = ("runs.parquet", "trials.parquet")
OURS = {SETTINGS_FILE, RUNS_FILE, TRIALS_FILE, *PARQUET_FILES, RUNS, JOBS, STATISTICS, LOCK}
"""Names that a comparison writes; ``--force`` deletes these and nothing else."""
FORMAT_VERSION = 1
ORPHAN_SECONDS = 30.0
"""How long to wait for a process of a killed comparison to notice that it is alone."""


@dataclass(frozen=True)
class Job:
    """One run: a method or a baseline on a task, with a seed."""

    task: str
    method: str
    seed: int
    baseline: bool = False

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.task} {self.method} seed {self.seed}"


@dataclass(frozen=True)
class Folder:
    """Paths below the folder of a comparison."""

    root: Path

    def run_dir(self, job: Job) -> Path:
        """The run directory of a job."""
        return self.root / RUNS / slug(job.task) / job.method / f"seed-{job.seed}"

    def job_file(self, job: Job, suffix: str) -> Path:
        """``.log``, ``.error``, ``.json`` (the job's state) or ``.lock``."""
        return self.root / JOBS / slug(job.task) / job.method / f"seed-{job.seed}{suffix}"

    def config_file(self, task: str, method: str) -> Path:
        """The configuration that all seeds of a method on a task share."""
        return self.root / JOBS / slug(task) / method / "config.toml"

    def state(self, job: Job) -> dict[str, Any]:
        """What the job last said about itself; empty before it began."""
        try:
            found = json.loads(self.job_file(job, ".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not begun; files are replaced as a whole, so none is read half-written
            return {}
        return found if isinstance(found, dict) else {}

    def is_done(self, job: Job) -> bool:
        """Whether the job came to its end."""
        return self.state(job).get("status") == "done" and (self.run_dir(job) / "summary.json").is_file()


def slug(task: str) -> str:
    """A task as the name of a folder."""
    return task.replace("/", "-").replace(":", "-")


@contextlib.contextmanager
def held(path: Path, wait: float, refusal: str) -> Iterator[None]:
    """Hold a lock that the system gives back when the process ends, however it ends.

    Raises
    ------
    UserError
        With ``refusal`` when another process holds it for longer than ``wait`` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise UserError(refusal) from None
                time.sleep(0.1)
        yield


def read_settings(root: Path) -> dict[str, Any]:
    """Read ``compare.json``.

    Raises
    ------
    UserError
        When there is none, or it is damaged or of another version.
    """
    path = root / SETTINGS_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"out={str(root)!r} holds no {SETTINGS_FILE}: expected the folder of a comparison") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r} is damaged: {error}") from error
    if not isinstance(document, dict) or document.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{str(path)!r} is of another version: expected format_version {FORMAT_VERSION}")
    return document


def check_begin(root: Path, force: bool) -> None:
    """Refuse a folder that holds something, unless ``force`` says to delete what a comparison wrote there.

    Raises
    ------
    UserError
    """
    try:
        found = sorted(path.name for path in root.iterdir()) if root.exists() else []
    except OSError as error:
        raise UserError(f"out={str(root)!r} cannot be used ({error.strerror}): expected a folder") from error
    if found in ([], [LOCK]):
        return
    if not force:
        raise UserError(
            f"out={str(root)!r} is not empty: give --resume to go on with it, --force to delete it and begin again, "
            "or another --out"
        )
    if SETTINGS_FILE not in found:
        raise UserError(f"out={str(root)!r} holds no {SETTINGS_FILE}: --force deletes nothing but a comparison")


def clear(root: Path) -> None:
    """Delete what an earlier comparison wrote; foreign files stay."""
    for name in OURS - {LOCK}:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def check_same(root: Path, now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Refuse to go on under other settings than those that the comparison began with.

    Raises
    ------
    UserError
        Naming the first three things that differ.
    """
    ours, theirs = _flat(_as_read(now)), _flat(_as_read(before))
    changed = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    if changed:
        shown = [f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here" for name in changed[:3]]
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise UserError(
            f"the comparison in {str(root)!r} was begun with other settings: {'; '.join(shown)}{more}: expected the "
            "same, or --resume and --out alone"
        )


def _as_read(values: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(values))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= _flat(item, f"{prefix}: {name}" if prefix else str(name))
    return found


def write_settings(root: Path, document: Mapping[str, Any]) -> None:
    """Write ``compare.json``."""
    text = json.dumps({"format_version": FORMAT_VERSION, **document}, indent=1) + "\n"
    write_atomically(root / SETTINGS_FILE, text)
