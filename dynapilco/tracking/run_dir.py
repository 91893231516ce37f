"""The folder of a run: its name, and the files that say how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import tomli_w

from dynapilco.core.errors import UserError
from dynapilco.core.storage import write_atomically

CONFIG_FILE = "config.toml"
COMMAND_FILE = "command.txt"
PROGRESS_FILE = "progress.csv"
CHECKPOINT_FOLDER = "checkpoint"


def run_name(env_id: str, inference: str, seed: int, when: datetime) -> str:
    """``<env>__<inference>__s<seed>__<YYYYmmdd-HHMMSS>``, with ``-`` for signs that a folder cannot have."""
    env = env_id.replace("/", "-").replace(":", "-")
    return f"{env}__{inference}__s{seed}__{when:%Y%m%d-%H%M%S}"


def check_out(out: Path) -> None:
    """Refuse a folder that holds anything; a run never writes over another.

    Raises
    ------
    UserError
    """
    try:
        str(out).encode()
        taken = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    except (OSError, UnicodeEncodeError) as error:
        raise UserError(f"out={str(out)!a} cannot be used: expected a folder to write to") from error
    if taken:
        raise UserError(f"out={str(out)!r} exists and is not empty: expected a new or an empty folder")


def make_run_dir(name: str, out: Path | None = None, root: Path = Path("runs")) -> Path:
    """Make the folder of a run.

    Parameters
    ----------
    name : str
        From `run_name`; with ``-2``, ``-3``, ... where another run took it.
    out : Path, optional
        Exactly this folder instead.

    Raises
    ------
    UserError
        When the folder cannot be made.
    """
    if out is not None:
        check_out(out)
        _make(out)
        return out
    _make(root)
    folder, count = root / name, 1
    while True:
        try:
            folder.mkdir()  # fails when another process was faster
            return folder
        except FileExistsError:
            count += 1
            folder = root / f"{name}-{count}"
        except OSError as error:
            raise _cannot_make(folder, error) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_make(folder, error) from error


def _cannot_make(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot make the folder {str(folder)!r} ({error.strerror}): expected a place to write to")


def write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Write the resolved configuration as ``config.toml``, which runs again through ``--config``."""
    write_atomically(run_dir / CONFIG_FILE, tomli_w.dumps(config))


def append_command(run_dir: Path, command: Sequence[str]) -> None:
    """Add a line to ``command.txt``: each command that worked on this run."""
    path = run_dir / COMMAND_FILE
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_atomically(path, f"{before}{shlex.join(command)}\n")
