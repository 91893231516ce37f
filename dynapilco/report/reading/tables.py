"""CSV tables with typed cells; what cannot be read is named by file and line."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynapilco.core.errors import UserError

Reader = Callable[[str], Any]


@dataclass(frozen=True)
class Table:
    """A file's rows.

    Attributes
    ----------
    rows : list of dict
        Column -> value, None for an empty cell.
    lines : list of int
        Line of each row in the file, from 1.
    notes : list of str
        What a person should know about the file.
    """

    rows: list[dict[str, Any]]
    lines: list[int]
    notes: list[str]


def text(cell: str) -> str:
    """The cell as it is."""
    return cell


def number(cell: str) -> float:
    """A float, ``nan`` and ``inf`` included."""
    return float(cell)


def integer(cell: str) -> int:
    """An integer, also written ``3.0`` as tables with gaps do."""
    value = float(cell)
    if not math.isfinite(value) or value != int(value):
        raise ValueError("expected an integer")
    return int(value)


def boolean(cell: str) -> bool:
    """``true`` or ``false`` (also as Python writes them, or 1 and 0)."""
    found = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}.get(cell.lower())
    if found is None:
        raise ValueError("expected true or false")
    return found


def read_table(path: Path, columns: Mapping[str, Reader], optional: Mapping[str, Reader] | None = None) -> Table:
    """Read a CSV file with a header.

    A last line without a line end may be half written (the file is being appended to): it is left out with a note.

    Parameters
    ----------
    path : Path
    columns, optional : mapping of str to callable
        How a cell of a column is read. The optional ones may be missing, further ones are kept as text.

    Raises
    ------
    UserError
        For a file that cannot be read or lacks a column, and for a line that cannot be understood, with its number.
    """
    content = _content(path)
    whole, end, rest = content.rpartition("\n")
    notes = []
    if rest:
        line = whole.count("\n") + 2 if end else 1
        notes.append(f"{path.name}, line {line}: it has no line end, so it may be half written, and is left out")
    lines = csv.reader((whole + end).splitlines(keepends=True), strict=True)
    header = _next(lines, path)
    if header is None:
        return Table([], [], notes)
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(
            f"{str(path)!r}, line 1: column {missing[0]!r} is missing; found {', '.join(header) or 'nothing'}"
        )
    readers = {**(optional or {}), **columns}
    rows, places = [], []
    while (cells := _next(lines, path)) is not None:
        if cells:
            rows.append(_row(header, cells, readers, path, lines.line_num))
            places.append(lines.line_num)
    return Table(rows, places, notes)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{str(path)!r} is missing") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{str(path)!r}, line {line}: it is no UTF-8 text") from error


def _next(lines: Any, path: Path) -> list[str] | None:
    try:
        return next(lines, None)
    except csv.Error as error:
        raise UserError(f"{str(path)!r}, line {lines.line_num}: {error}") from error


def _row(header: list[str], cells: list[str], readers: Mapping[str, Reader], path: Path, line: int) -> dict[str, Any]:
    if len(cells) != len(header):
        raise UserError(f"{str(path)!r}, line {line}: it has {len(cells)} cells where the header has {len(header)}")
    row = {}
    for name, cell in zip(header, cells, strict=True):
        try:
            row[name] = None if cell == "" else readers.get(name, text)(cell)
        except ValueError as error:
            raise UserError(
                f"{str(path)!r}, line {line}: {name} is {cell!r}, which cannot be read ({error})"
            ) from error
    return row
