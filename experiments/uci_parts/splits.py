"""The data of the UCI experiment: standard splits, and inner splits of their training rows for tuning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.core.seeding import numpy_generator
from dynapilco.inference.data import Dataset
from dynapilco.inference.data.csv_files import read_table
from dynapilco.inference.data.dataset import Table, split_table

INNER_FRACTION = 0.2
INNER_SPLITS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Splits:
    """R splits of one data set, side by side; inputs and targets standardised by the training rows of each.

    Attributes
    ----------
    name : str
    numbers : tuple of int
        Which splits, (R,).
    x_train, y_train : Tensor
        (R, N, d), (R, N, 1).
    x_test, y_test : Tensor
        (R, M, d), (R, M, 1); for inner splits the held-out training rows.
    y_std : Tensor
        (R,), the standard deviation that targets were divided by.
    """

    name: str
    numbers: tuple[int, ...]
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    y_std: Tensor


class Source:
    """One data set on disk: ``NAME.csv`` (target column ``y``) and ``NAME.splits.json`` ({"test": [[row, ...], ...]}).

    Raises
    ------
    UserError
        For missing or malformed files, and splits that name no rows or rows which do not exist.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.table = read_table(folder / f"{name}.csv", ["y"], "regression")
        self.tests = _read_tests(folder / f"{name}.splits.json", len(self.table.x))

    def outer(self, numbers: Sequence[int] | None = None) -> Splits:
        """The standard splits, by default all of them."""
        numbers = tuple(range(len(self.tests))) if numbers is None else tuple(numbers)
        parts = [split_table(self.table, self.tests[n], True, torch.float32) for n in numbers]
        return _stack(self.name, numbers, parts)

    def inner(self, numbers: Sequence[int] = INNER_SPLITS) -> Splits:
        """80/20 splits of the training rows of some splits: their test rows are never looked at."""
        numbers = tuple(n for n in numbers if n < len(self.tests))
        return _stack(self.name, numbers, [self._inner(n) for n in numbers])

    def _inner(self, number: int) -> Dataset:
        kept = np.setdiff1d(np.arange(len(self.table.x)), self.tests[number])
        table = Table(self.name, self.table.x[kept], self.table.y[kept], self.table.feature_names, "regression")
        order = numpy_generator(0, f"uci inner split {self.name}", number).permutation(len(kept))
        return split_table(table, np.sort(order[: round(INNER_FRACTION * len(kept))]), True, torch.float32)


def _read_tests(path: Path, rows: int) -> list[np.ndarray]:
    if not path.is_file():
        raise UserError(f"there is no {path.name} in {str(path.parent)!r}: expected the splits of the data set")
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))["test"]
        tests = [np.asarray(rows_of, dtype=np.int64) for rows_of in lists]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path.name}: expected {{"test": [[row, ...], ...]}}, got {error!r}') from error
    for number, test in enumerate(tests):
        if test.ndim != 1 or not 0 < len(test) < rows or test.min() < 0 or test.max() >= rows:
            raise UserError(f"{path.name}, split {number}: expected some row numbers from 0 to {rows - 1}")
        if len(np.unique(test)) != len(test):
            raise UserError(f"{path.name}, split {number} names a row twice")
    if not tests or len({len(test) for test in tests}) != 1:
        raise UserError(f"{path.name}: expected at least one split, all with equally many test rows")
    return tests


def _stack(name: str, numbers: tuple[int, ...], parts: Sequence[Dataset]) -> Splits:
    def stacked(attribute: str) -> Tensor:
        return torch.stack([getattr(part, attribute) for part in parts])

    y_std = torch.stack([part.y_standardiser.std[0] for part in parts])
    return Splits(
        name, numbers, stacked("x_train"), stacked("y_train"), stacked("x_test"), stacked("y_test"), y_std
    )  # fmt: skip
