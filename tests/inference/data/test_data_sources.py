import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from dynapilco.core.errors import UserError
from dynapilco.inference.data import as_tensors, is_batched


def pair(rows=7, columns=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, columns, generator=generator), torch.randn(rows, 2, generator=generator)


class Rows(Dataset):
    """Map-style data whose labels are plain integers and whose indexing never raises."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row % len(self.x)], row


class Stream(IterableDataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return iter(zip(self.x, self.y, strict=True))


def sources():
    x, y = pair()
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    yield "tensors", (x, y)
    yield "list of tensors", [x, y]
    yield "arrays", (x.numpy(), y.numpy())
    yield "mixed", (x, y.numpy())
    yield "loader", DataLoader(TensorDataset(x, y), batch_size=4)
    yield "tensor data set", TensorDataset(x, y)
    yield "stream", Stream(x, y)
    yield "two batches", batches
    yield "generator", iter(batches)
    yield "numpy batches", [(a.numpy(), b.numpy()) for a, b in batches]


@pytest.mark.parametrize(("name", "data"), list(sources()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_source_gives_the_same_tensors(name, data):
    x, y = as_tensors(data)
    assert torch.equal(x, pair()[0]) and torch.equal(y, pair()[1])


def test_pairs_are_told_from_batches():
    x, y = pair()
    assert not is_batched((x, y)) and not is_batched([x.numpy(), y])
    for data in ([(x, y), (x, y)], [(x, y)], TensorDataset(x, y), DataLoader(TensorDataset(x, y)), iter([(x, y)])):
        assert is_batched(data)


def test_rows_of_a_data_set_are_stacked_and_integer_labels_kept():
    x, _ = pair()
    read, labels = as_tensors(Rows(x), dtype=torch.float64)
    assert torch.equal(read, x.double())
    assert labels.dtype == torch.int64 and labels.tolist() == list(range(7))


def test_dtype_and_layout():
    x = np.arange(12, dtype=">f8").reshape(4, 3)[::-1]
    read, labels = as_tensors((x, np.arange(4)), dtype=torch.float32)
    assert read.dtype == torch.float32 and labels.dtype == torch.int64
    assert read.tolist() == x.tolist()
    assert as_tensors((x, np.arange(4)))[0].dtype == torch.float64
    locked = np.ones((2, 2))
    locked.flags.writeable = False
    as_tensors((locked, locked))[0].zero_()
    assert locked.sum() == 4


def test_one_data_set_a_member():
    x, y = torch.zeros(4, 5, 3), torch.zeros(4, 5, 1)
    assert as_tensors((x, y), row_axis=1)[0].shape == (4, 5, 3)
    with pytest.raises(UserError, match=r"x has shape \(4, 5, 3\), y \(4, 6, 1\): expected equal members and rows"):
        as_tensors((x, torch.zeros(4, 6, 1)), row_axis=1)
    y[1, 3] = torch.nan
    with pytest.raises(UserError, match="y holds NaN or infinite values in 1 places, the first in row 3"):
        as_tensors((x, y), row_axis=1)


def bad(value):
    x, y = pair()
    x[5, 1] = value
    return x, y


X, Y = pair()
WRONG = {
    "NaN": (bad(torch.nan), "x holds NaN or infinite values in 1 places, the first in row 5"),
    "infinite": (bad(torch.inf)[::-1], "y holds NaN or infinite values in 1 places, the first in row 5"),
    "unequal rows": ((X, Y[:-1]), r"x has shape \(7, 3\), y \(6, 2\): expected equal rows"),
    "empty": ((X[:0], Y[:0]), r"x is empty, shape \(0, 3\)"),
    "no columns": ((X, Y[:, :0]), r"y is empty, shape \(7, 0\)"),
    "no batches": ([], "data is empty"),
    "empty loader": (DataLoader(TensorDataset(X, Y), batch_size=10, drop_last=True), "gave no batch"),
    "scalar": ((X, torch.tensor(1.0)), r"y has shape \(\)"),
    "missing target": ((X, None), "y is a NoneType: expected a tensor or a numpy array"),
    "one tensor": (X, "data is a Tensor: expected an"),
    "mapping": ({"x": X}, "data is a dict of length 1"),
    "number": (3, "data is a int"),
    "text": ((np.array([["a"]]), Y), "x has dtype <U1: expected numbers"),
    "objects": ((X, np.array([None] * 7)), "y has dtype object: expected numbers"),
    "complex": ((X, Y + 1j), "y has dtype torch.complex64: expected real"),
    "three parts": ([(X, Y, Y)], "batch 0 of data is a tuple of length 3"),
    "columns change": ([(X, Y), (X[:, :2], Y)], r"x in batch 1 of data has rows of shape \(2,\), the first \(3,\)"),
    "kind changes": ([(X, Y), (X, Y.long())], "y in batch 1 of data has dtype torch.int64"),
    "batch rows": ([(X, Y), (X, Y[1:])], "batch 1 of data: x has 7 rows, y has 6"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_data_is_named(case):
    data, message = WRONG[case]
    with pytest.raises(UserError, match=message):
        as_tensors(data)


def test_bad_row_axis():
    with pytest.raises(UserError, match="row_axis=2"):
        as_tensors((X, Y), row_axis=2)
