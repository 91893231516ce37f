"""The two tables of the experiment, kept as CSV files: rows that are there are not computed again."""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uci_parts.scores import METRICS

INNER_COLUMNS = ("dataset", "method", "config", "settings", "diverged", "seconds", *METRICS, "nll_by_split")
TEST_COLUMNS = ("dataset", "method", "config", "settings", "tuned", "diverged", "split", "seconds", *METRICS)

Row = dict[str, str]


@dataclass(frozen=True)
class Store:
    """``inner.csv``: a row for each configuration tried. ``test.csv``: a row for each test split.

    A row is found again by its data set, method and the text of its settings: changed settings are another row, and
    replace the old one of the same name.
    """

    folder: Path

    @property
    def inner(self) -> Path:
        """Tuning results."""
        return self.folder / "inner.csv"

    @property
    def test(self) -> Path:
        """Test results."""
        return self.folder / "test.csv"

    def inner_row(self, dataset: str, method: str, settings: str) -> Row | None:
        """The row of a configuration that was tried, or None."""
        rows = [r for r in read(self.inner) if _key(r) == (dataset, method) and r["settings"] == settings]
        return rows[-1] if rows else None

    def test_rows(self, dataset: str, method: str) -> list[Row]:
        """The rows of a finished cell, one for each split; empty where there is none."""
        return [row for row in read(self.test) if _key(row) == (dataset, method)]

    def put_inner(self, row: Row) -> None:
        """Add a configuration; the one of the same name goes."""
        same = (row["dataset"], row["method"], row["config"])
        self._replace(self.inner, INNER_COLUMNS, [row], lambda r: (*_key(r), r["config"]) == same)

    def put_test(self, rows: Sequence[Row]) -> None:
        """Add a cell, all its splits at once; the old one goes."""
        same = _key(rows[0])
        self._replace(self.test, TEST_COLUMNS, rows, lambda r: _key(r) == same)

    def _replace(self, path: Path, columns: Sequence[str], rows: Sequence[Row], old: Callable[[Row], bool]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder):
            kept = [row for row in read(path) if not old(row)]
            merged = sorted([*kept, *rows], key=lambda r: (*_key(r), int(r.get("split", "0")), r["config"]))
            temporary = path.with_suffix(".partial")
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(merged)
            os.replace(temporary, path)


def read(path: Path) -> list[Row]:
    """All rows; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _key(row: Row) -> tuple[str, str]:
    return row["dataset"], row["method"]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes of this experiment from writing at the same time."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
