"""Data sets kept as a CSV file with a file of splits beside it.

``NAME.csv`` has a header and one row per example; the target columns are named, by default ``y``, all others are
features. ``NAME.splits.json`` is ``{"test": [[row, ...], ...]}``: for each split the test rows, counted from 0 below
the header. All other rows are training rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.core.seeding import numpy_generator
from dynapilco.inference.data.dataset import (
    Dataset,
    Table,
    Task,
    as_classes,
    check_options,
    check_task,
    random_test_rows,
    split_table,
)

RANDOM = "random"


def load_csv(
    path: str | Path,
    splits: str | Path | Sequence[Sequence[int]] | None = None,
    split: int = 0,
    *,
    targets: str | Sequence[str] = "y",
    task: Task = "regression",
    standardise: bool = True,
    test_fraction: float | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Load one split of a CSV file.

    Parameters
    ----------
    path : path
        The CSV file: a header, then one row per example.
    splits : path, sequence or "random", optional
        A JSON file of splits, the lists of test rows themselves, or ``"random"``: ``test_fraction`` of the rows, drawn
        from ``seed`` and ``split``. None takes ``NAME.splits.json`` beside the file.
    split : int
        Which split, from 0.
    targets : str or sequence of str
        Target columns. A classification takes one, of any words or numbers.
    task : "regression" or "classification"
    standardise : bool
        By mean and standard deviation of the training rows: x, and for regressions y.
    test_fraction : float, optional
        For random splits only; 0.1 by default.
    seed : int
        For random splits only.
    dtype : torch.dtype
        Of all floating tensors.

    Raises
    ------
    UserError
        For a missing or malformed file, text where numbers are expected, NaN or infinite values, an unknown column,
        a split that does not exist or that names rows which do not.
    """
    path = Path(path)
    check_options(standardise, dtype)
    table = read_table(path, [targets] if isinstance(targets, str) else list(targets), check_task(task))
    if isinstance(splits, str) and splits == RANDOM:
        fraction = 0.1 if test_fraction is None else test_fraction
        _check_index(split, None)
        test = random_test_rows(len(table.x), fraction, numpy_generator(seed, "dataset split", split))
    else:
        if test_fraction is not None:
            raise UserError(f"test_fraction={test_fraction!r}: expected None unless splits is {RANDOM!r}")
        test = _test_rows(path, splits, split, len(table.x))
    return split_table(table, test, standardise, dtype)


def read_table(path: Path, targets: list[str], task: Task) -> Table:
    """Read and check all rows of a CSV file."""
    header, rows = _read_rows(path)
    for target in targets:
        if target not in header:
            raise unknown_name(f"column of {path.name}", target, header)
    if task == "classification" and len(targets) != 1:
        raise UserError(f"targets={targets!r}: expected one column for a classification")
    features = [column for column in header if column not in targets]
    if not features or not targets:
        raise UserError(f"targets={targets!r}: expected at least one target and one feature among {header}")
    x = _numbers(path, header, rows, features)
    if task == "regression":
        return Table(path.stem, x, _numbers(path, header, rows, targets), tuple(features), task)
    column = header.index(targets[0])
    labels = [row[column].strip() for row in rows]
    if "" in labels:
        raise UserError(f"{path.name}, row {labels.index('')}, column {targets[0]!r} is empty: expected a class")
    classes, names = as_classes(labels)
    return Table(path.stem, x, classes, tuple(features), task, names)


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    if not path.is_file():
        raise UserError(f"path={str(path)!r}: expected an existing CSV file")
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if len(lines) < 2:
        raise UserError(f"{path.name} has {len(lines)} lines: expected a header and at least one row")
    header, rows = [word.strip() for word in lines[0]], lines[1:]
    if len(set(header)) != len(header):
        raise UserError(f"{path.name} has the header {header}: expected column names that differ")
    for index, row in enumerate(rows):
        if len(row) != len(header):
            raise UserError(f"{path.name}, row {index} has {len(row)} values: expected {len(header)}")
    return header, rows


def _numbers(path: Path, header: list[str], rows: list[list[str]], columns: list[str]) -> np.ndarray:
    chosen = [header.index(column) for column in columns]
    try:
        values = np.array([[float(row[i]) for i in chosen] for row in rows], dtype=np.float64)
    except ValueError:
        index, column = next((i, c) for i, row in enumerate(rows) for c in chosen if not _is_number(row[c]))
        place = f"{path.name}, row {index}, column {header[column]!r}"
        raise UserError(f"{place} is {rows[index][column]!r}: expected a number") from None
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        index, column = bad[0]
        place = f"{path.name}, row {index}, column {columns[column]!r}"
        raise UserError(f"{place} is {values[index, column]}: expected a finite number ({len(bad)} are not)")
    return values


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _test_rows(path: Path, splits: str | Path | Sequence[Sequence[int]] | None, split: int, rows: int) -> np.ndarray:
    name = "splits"
    if splits is None:
        splits = path.with_suffix(".splits.json")
        if not splits.is_file():
            raise UserError(
                f"splits=None: there is no {splits.name} beside {path.name}; give splits={RANDOM!r} or a file"
            )
    if isinstance(splits, str | Path):
        name = Path(splits).name
        splits = _read_splits(Path(splits))
    _check_index(split, len(splits))
    return _check_split(f"{name}, split {split}", splits[split], rows)


def _read_splits(path: Path) -> list[list[int]]:
    if not path.is_file():
        raise UserError(f"splits={str(path)!r}: expected an existing JSON file, lists of rows or {RANDOM!r}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path.name} is not JSON ({error}): expected {{'test': [[row, ...], ...]}}") from error
    lists = content.get("test") if isinstance(content, dict) else None
    if not isinstance(lists, list) or not all(isinstance(rows, list) for rows in lists):
        raise UserError(f"{path.name} has no list of lists under 'test': expected {{'test': [[row, ...], ...]}}")
    return lists


def _check_index(split: int, count: int | None) -> None:
    valid = isinstance(split, int) and not isinstance(split, bool) and split >= 0
    if not valid or (count is not None and split >= count):
        expected = "an integer of at least 0" if count is None else f"an integer from 0 to {count - 1}"
        raise UserError(f"split={split!r}: expected {expected}")


def _check_split(name: str, test: Sequence[int], rows: int) -> np.ndarray:
    wrong = [row for row in test if isinstance(row, bool) or not isinstance(row, int | np.integer)]
    if wrong:
        raise UserError(f"{name} holds {wrong[0]!r}: expected row numbers")
    indices = np.asarray(test, dtype=np.int64)
    outside = indices[(indices < 0) | (indices >= rows)]
    if len(outside):
        raise UserError(f"{name} holds row {outside[0]}: expected rows from 0 to {rows - 1}")
    if len(np.unique(indices)) != len(indices):
        raise UserError(f"{name} names a row twice: expected each row once")
    if not 0 < len(indices) < rows:
        raise UserError(f"{name} holds {len(indices)} of {rows} rows: expected test rows and training rows")
    return indices
