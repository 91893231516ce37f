"""Public data sets in one line: scikit-learn's bundled ones, and CSV files with splits by their name in a folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.core.seeding import derive, numpy_generator
from dynapilco.inference.data.csv_files import load_csv
from dynapilco.inference.data.dataset import Dataset, Table, check_options, random_test_rows, split_table

BUNDLED = {
    "diabetes": "load_diabetes",
    "iris": "load_iris",
    "wine_recognition": "load_wine",
    "breast_cancer": "load_breast_cancer",
    "digits": "load_digits",
}
GENERATED: dict[str, tuple[str, str, float, dict[str, Any]]] = {
    "moons": ("make_moons", "noise", 0.1, {}),
    "circles": ("make_circles", "noise", 0.1, {"factor": 0.5}),
    "blobs": ("make_blobs", "cluster_std", 1.0, {"centers": 3}),
}
ROWS = 500
TEST_FRACTION = 0.1


def dataset_names(data_dir: str | Path | None = None) -> list[str]:
    """All names that ``load_dataset`` understands, those of the CSV files in ``data_dir`` included."""
    return sorted({*BUNDLED, *GENERATED, *_csv_files(data_dir)})


def load_dataset(
    name: str,
    split: int = 0,
    data_dir: str | Path | None = None,
    standardise: bool = True,
    *,
    test_fraction: float | None = None,
    rows: int | None = None,
    noise: float | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name : str
        ``diabetes``, ``iris``, ``wine_recognition``, ``breast_cancer``, ``digits``; ``moons``, ``circles``, ``blobs``
        (drawn from ``seed``); or NAME where ``data_dir`` holds NAME.csv and NAME.splits.json, which goes first.
    split : int
        Which split, from 0. CSV files bring theirs; for the others each number is one random split of ``seed``.
    data_dir : path, optional
        Folder of CSV files, format in ``dynapilco.inference.data.csv_files``.
    standardise : bool
        By mean and standard deviation of the training rows: x, and for regressions y.
    test_fraction : float, optional
        Share of test rows, 0.1 by default; not for CSV files.
    rows : int, optional
        Number of rows of a drawn set, 500 by default.
    noise : float, optional
        Standard deviation of a drawn set's noise: 0.1 for moons and circles, 1 for blobs by default.
    seed : int
        For the drawn sets and the random splits.
    dtype : torch.dtype
        Of all floating tensors.

    Raises
    ------
    UserError
        For an unknown name, a set that needs scikit-learn where it is not installed, or an option out of range.

    Examples
    --------
    >>> data = load_dataset("diabetes")  # doctest: +SKIP
    >>> data.x_train.shape, data.task  # doctest: +SKIP
    (torch.Size([398, 10]), 'regression')
    """
    check_options(standardise, dtype)
    files = _csv_files(data_dir)
    if name not in dataset_names(data_dir):
        error = unknown_name("data set", name, dataset_names(data_dir))
        raise error if data_dir is not None else UserError(f"{error}; CSV files are found by data_dir=FOLDER")
    drawn = name in GENERATED and name not in files
    refused = {"rows": None if drawn else rows, "noise": None if drawn else noise}
    if name in files:
        _refuse(name, {**refused, "test_fraction": test_fraction})
        return load_csv(files[name], split=split, standardise=standardise, dtype=dtype)
    _refuse(name, refused)
    _check_whole("split", split, 0)
    _check_whole("seed", seed, 0)
    table = _draw(name, rows, noise, seed) if drawn else _bundled(name)
    fraction = TEST_FRACTION if test_fraction is None else test_fraction
    test = random_test_rows(len(table.x), fraction, numpy_generator(seed, "dataset split", split))
    return split_table(table, test, standardise, dtype)


def _csv_files(data_dir: str | Path | None) -> dict[str, Path]:
    if data_dir is None:
        return {}
    if not Path(data_dir).is_dir():
        raise UserError(f"data_dir={str(data_dir)!r}: expected an existing folder of CSV files")
    return {path.stem: path for path in sorted(Path(data_dir).glob("*.csv"))}


def _bundled(name: str) -> Table:
    bunch = _scikit_learn(name, BUNDLED[name])()
    x = np.ascontiguousarray(bunch.data, dtype=np.float64)
    features = tuple(str(feature) for feature in bunch.feature_names)
    if name == "diabetes":
        return Table(name, x, np.asarray(bunch.target, dtype=np.float64)[:, None], features, "regression")
    classes = tuple(str(word) for word in bunch.target_names)
    return Table(name, x, np.asarray(bunch.target, dtype=np.int64), features, "classification", classes)


def _draw(name: str, rows: int | None, noise: float | None, seed: int) -> Table:
    function, keyword, usual, fixed = GENERATED[name]
    rows = ROWS if rows is None else rows
    noise = usual if noise is None else noise
    _check_whole("rows", rows, 2)
    if not (isinstance(noise, int | float) and np.isfinite(noise) and noise >= 0):
        raise UserError(f"noise={noise!r}: expected a finite number of at least 0")
    make = _scikit_learn(name, function)
    # scikit-learn takes seeds of 32 bits; a RandomState of its own leaves numpy's global one alone.
    state = derive(seed, f"dataset {name}") % 2**32
    x, y = make(n_samples=rows, random_state=state, **{keyword: noise}, **fixed)
    classes = tuple(str(label) for label in range(int(y.max()) + 1))
    return Table(name, x.astype(np.float64), y.astype(np.int64), ("x0", "x1"), "classification", classes)


def _scikit_learn(name: str, function: str) -> Callable[..., Any]:
    try:
        module = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise UserError(f"name={name!r} comes with scikit-learn, which is missing: pip install scikit-learn") from error
    return getattr(module, function)


def _refuse(name: str, options: dict[str, object]) -> None:
    for option, value in options.items():
        if value is not None:
            raise UserError(f"{option}={value!r}: expected None, the data set {name!r} has no such option")


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name}={value!r}: expected an integer of at least {least}")
