"""One pair of tensors out of whatever holds the data: arrays, a DataLoader, a Dataset, any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from dynapilco.core.errors import UserError

EXPECTED = "an (x, y) pair of tensors or numpy arrays, a DataLoader, a Dataset, or an iterable of (x, y) batches"


def is_batched(data: object) -> bool:
    """Whether ``data`` has to be iterated to be read; False for an ``(x, y)`` pair of tensors or numpy arrays.

    A list of two batches is batched: its items are pairs, not arrays. One array of two is enough to be taken for a
    pair, so that the other is named when it is wrong. Nothing is read.
    """
    return not (isinstance(data, tuple | list) and len(data) == 2 and any(_is_array(part) for part in data))


def as_tensors(
    data: object, dtype: torch.dtype | None = None, device: torch.device | str | None = None, row_axis: int = 0
) -> tuple[Tensor, Tensor]:
    """Read all of ``data`` as two checked tensors.

    Parameters
    ----------
    data : pair, DataLoader, Dataset or iterable
        ``(x, y)`` tensors or numpy arrays; a ``Dataset`` whose items are single rows; a ``DataLoader`` or another
        finite iterable whose items are ``(x, y)`` batches. Iterables are read once, from beginning to end: what a
        loader leaves out (``drop_last``) is not there. A loader without a generator of its own draws from torch's
        global one when it is iterated.
    dtype : torch.dtype, optional
        Floating values are cast to it; integers (class indices, tokens) are kept. None keeps all.
    device : torch.device or str, optional
        Where the tensors are moved; None leaves them.
    row_axis : int
        0 for data (N, *); 1 for one data set a member, (S, N, *), as a pair.

    Returns
    -------
    tuple of Tensor
        x (N, *in) and y (N, *out), or with a leading S.

    Raises
    ------
    UserError
        For anything else, no rows, unequal rows, batches that do not fit together, or NaN and infinite values.
    """
    x, y = _read(data)
    _check_rows(x, y, row_axis)
    for name, tensor in (("x", x), ("y", y)):
        _check_finite(name, tensor, row_axis)
    return _moved(x, dtype, device), _moved(y, dtype, device)


def _read(data: object) -> tuple[Tensor, Tensor]:
    if not is_batched(data):
        x, y = cast(tuple[Any, Any], data)
        return _tensor("x", x), _tensor("y", y)
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        return data.tensors[0], data.tensors[1]
    if isinstance(data, TorchDataset):
        return _joined(_rows(data), stack=True, item="row")
    if isinstance(data, Iterable) and not isinstance(data, Tensor | np.ndarray | str | bytes | dict):
        return _joined(iter(data), stack=False, item="batch")
    raise UserError(f"data is {_described(data)}: expected {EXPECTED}")


def _rows(data: TorchDataset) -> Iterator[object]:
    if isinstance(data, IterableDataset):
        return iter(data)
    # Indexing past the end need not raise in a map-style data set, so its length bounds the loop.
    return (data[row] for row in range(len(cast(Any, data))))


def _joined(items: Iterator[object], stack: bool, item: str) -> tuple[Tensor, Tensor]:
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    for index, pair in enumerate(items):
        where = f"{item} {index} of data"
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise UserError(f"{where} is {_described(pair)}: expected a pair (x, y)")
        for name, part, kept in (("x", pair[0], xs), ("y", pair[1], ys)):
            tensor = _tensor(f"{name} in {where}", part, scalars=stack)
            kept.append(tensor.unsqueeze(0) if stack else tensor)
            _check_fits(f"{name} in {where}", kept)
        if xs[-1].shape[0] != ys[-1].shape[0]:
            raise UserError(f"{where}: x has {xs[-1].shape[0]} rows, y has {ys[-1].shape[0]}: expected as many")
    if not xs:
        raise UserError(f"data is empty: {_described(items)} gave no {item}, expected at least one")
    return torch.cat(xs), torch.cat(ys)


def _tensor(name: str, value: object, scalars: bool = False) -> Tensor:
    if scalars and isinstance(value, int | float | np.number):
        value = torch.tensor(value)
    if isinstance(value, np.ndarray):
        value = _from_numpy(name, value)
    if not isinstance(value, Tensor):
        raise UserError(f"{name} is {_described(value)}: expected a tensor or a numpy array")
    if value.dim() == 0 and not scalars:
        raise UserError(f"{name} has shape (): expected at least one axis, of rows")
    if value.is_complex():
        raise UserError(f"{name} has dtype {value.dtype}: expected real numbers")
    return value


def _from_numpy(name: str, value: np.ndarray) -> Tensor:
    if value.dtype.kind not in "fiub":
        raise UserError(f"{name} has dtype {value.dtype}: expected numbers")
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    if not native.flags.writeable or any(stride < 0 for stride in native.strides):
        native = native.copy()
    try:
        return torch.from_numpy(native)
    except TypeError as error:
        raise UserError(f"{name} has dtype {value.dtype}: expected one that torch knows, e.g. float32") from error


def _check_fits(name: str, kept: list[Tensor]) -> None:
    first, last = kept[0], kept[-1]
    if first.shape[1:] != last.shape[1:]:
        shapes = f"{tuple(last.shape[1:])}, the first {tuple(first.shape[1:])}"
        raise UserError(f"{name} has rows of shape {shapes}: expected equal shapes")
    if first.is_floating_point() != last.is_floating_point():
        raise UserError(f"{name} has dtype {last.dtype}, the first {first.dtype}: expected the same kind throughout")


def _check_rows(x: Tensor, y: Tensor, row_axis: int) -> None:
    if row_axis not in (0, 1):
        raise UserError(f"row_axis={row_axis!r}: expected 0 for (N, *) or 1 for (S, N, *)")
    lead = row_axis + 1
    for name, tensor in (("x", x), ("y", y)):
        if tensor.dim() < lead:
            raise UserError(f"{name} has shape {tuple(tensor.shape)}: expected at least {lead} axes")
    if x.shape[:lead] != y.shape[:lead]:
        shapes = f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}"
        raise UserError(f"{shapes}: expected equal {'rows (first axis)' if lead == 1 else 'members and rows'}")
    for name, tensor in (("x", x), ("y", y)):
        if tensor.numel() == 0:
            raise UserError(f"{name} is empty, shape {tuple(tensor.shape)}: expected at least one row and one value")


def _check_finite(name: str, tensor: Tensor, row_axis: int) -> None:
    if not tensor.is_floating_point():
        return
    bad = ~torch.isfinite(tensor)
    if bad.any():
        row = int(bad.nonzero()[0, row_axis])
        count = int(bad.sum())
        raise UserError(f"{name} holds NaN or infinite values in {count} places, the first in row {row}: expected none")


def _moved(tensor: Tensor, dtype: torch.dtype | None, device: torch.device | str | None) -> Tensor:
    return tensor.to(device=device, dtype=dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype)


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _described(value: object) -> str:
    size = f" of length {len(value)}" if isinstance(value, tuple | list | dict | str) else ""
    return f"a {type(value).__name__}{size}"
