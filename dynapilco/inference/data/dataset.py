"""A data set split into training and test rows, standardised by the training rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dynapilco.core.errors import UserError, unknown_name

Task = Literal["regression", "classification"]
TASKS = ("regression", "classification")


@dataclass(frozen=True)
class Standardiser:
    """The affine map v -> (v - mean) / std, column by column, and its inverse.

    Attributes
    ----------
    mean, std : Tensor
        float64, shape (columns,); std is the population's (divided by N), and 1 for a constant column.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, values: Tensor) -> Standardiser:
        """Take mean and std of ``values`` (N, columns). A column constant up to rounding is only centred."""
        values = values.double()
        largest, smallest = values.amax(0), values.amin(0)
        rounding = 8 * torch.finfo(torch.float64).eps * values.abs().amax(0)
        constant = (largest - smallest) <= rounding
        mean = torch.where(constant, smallest, values.mean(0))
        return cls(mean, torch.where(constant, 1.0, values.std(0, correction=0)))

    @classmethod
    def identity(cls, columns: int) -> Standardiser:
        """The map that changes nothing."""
        return cls(torch.zeros(columns, dtype=torch.float64), torch.ones(columns, dtype=torch.float64))

    def __call__(self, values: Tensor) -> Tensor:
        """Standardise ``values`` (..., columns); computed in float64, returned in the dtype of ``values``."""
        mean, std = self._on(values)
        return ((values.double() - mean) / std).to(values.dtype)

    def inverse(self, values: Tensor) -> Tensor:
        """Back to original units, (..., columns)."""
        mean, std = self._on(values)
        return (values.double() * std + mean).to(values.dtype)

    def inverse_std(self, values: Tensor) -> Tensor:
        """Standard deviations (..., columns) back to original units: scaled, not shifted."""
        return (values.double() * self._on(values)[1]).to(values.dtype)

    def _on(self, values: Tensor) -> tuple[Tensor, Tensor]:
        if not values.is_floating_point():
            raise UserError(f"values have dtype {values.dtype}: expected floating values, classes are not standardised")
        if values.dim() == 0 or values.shape[-1] != len(self.mean):
            raise UserError(f"values have shape {tuple(values.shape)}: expected (..., {len(self.mean)})")
        return self.mean.to(values.device), self.std.to(values.device)


@dataclass(frozen=True)
class Dataset:
    """Training and test rows of one split.

    Attributes
    ----------
    name : str
    x_train, x_test : Tensor
        (N, features), floating, standardised if that was asked for.
    y_train, y_test : Tensor
        Regression: (N, targets), floating, standardised like x. Classification: class indices (N,), int64.
    feature_names : tuple of str
    task : "regression" or "classification"
    x_standardiser, y_standardiser : Standardiser
        From original to stored units, ``inverse`` back; identities where nothing was standardised.
    class_names : tuple of str
        By class index; empty for regression.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    feature_names: tuple[str, ...]
    task: Task
    x_standardiser: Standardiser
    y_standardiser: Standardiser
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """All rows, before a split: x (N, features) float64; y (N, targets) float64, or class indices (N,) int64."""

    name: str
    x: np.ndarray
    y: np.ndarray
    feature_names: tuple[str, ...]
    task: Task
    class_names: tuple[str, ...] = ()


def split_table(table: Table, test: np.ndarray, standardise: bool, dtype: torch.dtype) -> Dataset:
    """Take the rows ``test`` as test rows and the others as training rows; statistics come from the latter."""
    held_out = np.zeros(len(table.x), dtype=bool)
    held_out[test] = True
    train = np.flatnonzero(~held_out)
    x, y = torch.from_numpy(table.x), torch.from_numpy(table.y)
    columns = 1 if table.task == "classification" else table.y.shape[1]
    own = standardise and table.task == "regression"
    scale_x = Standardiser.fit(x[train]) if standardise else Standardiser.identity(x.shape[1])
    scale_y = Standardiser.fit(y[train]) if own else Standardiser.identity(columns)

    def targets(rows: np.ndarray) -> Tensor:
        return y[rows] if table.task == "classification" else scale_y(y[rows]).to(dtype)

    return Dataset(
        name=table.name,
        x_train=scale_x(x[train]).to(dtype),
        y_train=targets(train),
        x_test=scale_x(x[test]).to(dtype),
        y_test=targets(test),
        feature_names=table.feature_names,
        task=table.task,
        x_standardiser=scale_x,
        y_standardiser=scale_y,
        class_names=table.class_names,
    )


def random_test_rows(rows: int, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Indices of round(fraction * rows) rows drawn without replacement, in ascending order."""
    if not 0 < fraction < 1:
        raise UserError(f"test_fraction={fraction!r}: expected a number between 0 and 1")
    size = round(fraction * rows)
    if not 0 < size < rows:
        raise UserError(f"test_fraction={fraction!r} of {rows} rows leaves no rows on one side of the split")
    return np.sort(generator.permutation(rows)[:size])


def check_task(task: object) -> Task:
    """``task`` if it is known; raises ``UserError`` otherwise."""
    if task == "regression":
        return "regression"
    if task == "classification":
        return "classification"
    raise unknown_name("task", task, TASKS)


def check_options(standardise: object, dtype: object) -> None:
    """Refuse a ``standardise`` that is no bool and a ``dtype`` that is not floating."""
    if not isinstance(standardise, bool):
        raise UserError(f"standardise={standardise!r}: expected True or False")
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise UserError(f"dtype={dtype!r}: expected a floating torch.dtype")


def as_classes(labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class indices (N,), int64, and the class names they stand for: numbers in their order, words in theirs."""
    names = sorted(set(labels), key=_numbers_first)
    index = {name: i for i, name in enumerate(names)}
    return np.array([index[label] for label in labels], dtype=np.int64), tuple(names)


def _numbers_first(label: str) -> tuple[bool, float, str]:
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label
