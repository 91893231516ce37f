"""Small files beside the tables: JSON, TOML, command lines. One that is missing or damaged is a note, not an error."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from dynapilco.tracking.run_dir import COMMAND_FILE, CONFIG_FILE


def read_json(path: Path, notes: list[str]) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no such file, and with a note where it is not whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read and is left out ({error})")
        return None
    if not isinstance(found, dict):
        notes.append(f"{path.name} holds no JSON object and is left out")
        return None
    return found


def read_config(folder: Path, notes: list[str]) -> tuple[str | None, dict[str, Any]]:
    """``config.toml`` as text and as values."""
    text = read_text(folder / CONFIG_FILE, notes)
    try:
        return text, tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as error:
        notes.append(f"{CONFIG_FILE} is no valid TOML ({error}): it is shown as it is")
        return text, {}


def read_commands(folder: Path, notes: list[str]) -> list[str]:
    """The lines of ``command.txt``."""
    return [line for line in (read_text(folder / COMMAND_FILE, notes) or "").splitlines() if line.strip()]


def read_text(path: Path, notes: list[str]) -> str | None:
    """A text file; None with a note where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        notes.append(f"{path.name} is missing")
    except (OSError, UnicodeDecodeError) as error:
        notes.append(f"{path.name} cannot be read and is left out ({error})")
    return None
