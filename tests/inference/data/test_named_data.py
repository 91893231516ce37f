import sys

import numpy as np
import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference.data import Standardiser, dataset_names, load_dataset

BUNDLED = [
    ("diabetes", 442, 10, "regression", 0),
    ("iris", 150, 4, "classification", 3),
    ("wine_recognition", 178, 13, "classification", 3),
    ("breast_cancer", 569, 30, "classification", 2),
    ("digits", 1797, 64, "classification", 10),
    ("moons", 500, 2, "classification", 2),
    ("circles", 500, 2, "classification", 2),
    ("blobs", 500, 2, "classification", 3),
]


@pytest.fixture
def sklearn():
    return pytest.importorskip("sklearn")


@pytest.mark.parametrize(("name", "rows", "columns", "task", "classes"), BUNDLED)
def test_bundled_sets_load_in_one_line(sklearn, name, rows, columns, task, classes):
    data = load_dataset(name)
    test = round(0.1 * rows)
    assert data.x_train.shape == (rows - test, columns) and data.x_test.shape == (test, columns)
    assert len(data.feature_names) == columns and data.task == task and len(data.class_names) == classes
    assert data.x_train.isfinite().all() and data.x_train.dtype == torch.float32
    # Training rows have mean 0 and variance 1, or 0 where the column is constant (pixels of the digits).
    variance = data.x_train.double().var(0, correction=0)
    assert data.x_train.double().mean(0).abs().max() < 1e-6
    assert (((variance - 1).abs() < 1e-5) | (variance == 0)).all()
    if task == "classification":
        assert data.y_train.dtype == torch.int64 and set(data.y_train.tolist()) == set(range(classes))
    else:
        assert data.y_train.shape == (rows - test, 1) and abs(data.y_train.mean()) < 1e-6


def test_the_inverse_gives_the_original_values(sklearn):
    from sklearn.datasets import load_diabetes

    data = load_dataset("diabetes", dtype=torch.float64)
    original = np.sort(load_diabetes().target)
    y = torch.cat([data.y_standardiser.inverse(data.y_train), data.y_standardiser.inverse(data.y_test)])
    assert np.allclose(np.sort(y.numpy().ravel()), original, atol=1e-10)
    raw = load_dataset("diabetes", standardise=False, dtype=torch.float64)
    assert torch.equal(raw.x_standardiser(raw.x_train), raw.x_train)
    assert torch.allclose(data.x_standardiser.inverse(data.x_test), raw.x_test, atol=1e-12)


def blobs(seed):
    return load_dataset("blobs", seed=seed, standardise=False)


def test_splits_and_seeds_are_streams(sklearn):
    first, again, other = load_dataset("iris"), load_dataset("iris"), load_dataset("iris", split=1)
    assert torch.equal(first.x_test, again.x_test) and not torch.equal(first.x_test, other.x_test)
    moons = load_dataset("moons", rows=60, noise=0.0, seed=3, test_fraction=0.25, standardise=False)
    assert len(moons.x_test) == 15
    # Without noise the points lie on two half circles of radius 1.
    upper = moons.x_train[moons.y_train == 0]
    assert torch.allclose(upper.norm(dim=1), torch.ones(len(upper)), atol=1e-6)
    # Another seed draws other rows, not only another split of the same ones.
    rows = [torch.cat([d.x_train, d.x_test])[:, 0].sort().values for d in (blobs(1), blobs(1), blobs(2))]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_global_generators_are_left_alone(sklearn):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    load_dataset("moons")
    assert (np.random.get_state()[1] == before[0]).all() and torch.equal(torch.get_rng_state(), before[1])


def test_a_constant_column_is_centred_only():
    values = torch.tensor([[1.0, 0.1, 1e6], [3.0, 0.1, 1e6 + 1e-9], [5.0, 0.1, 1e6]], dtype=torch.float64)
    scale = Standardiser.fit(values)
    assert scale.std.tolist() == [pytest.approx((8 / 3) ** 0.5), 1.0, 1.0]
    assert scale(values)[:, 1].tolist() == [0.0, 0.0, 0.0]
    assert scale(torch.tensor([[3.0, 0.6, 1e6]]))[0, 1] == pytest.approx(0.5)
    # A small spread that is real is kept: 1e-9 around 0 is not rounding.
    small = Standardiser.fit(torch.tensor([[1e-9], [-1e-9]], dtype=torch.float64))
    assert small.std.item() == pytest.approx(1e-9)


def test_standard_deviations_are_scaled_not_shifted():
    scale = Standardiser(torch.tensor([10.0]).double(), torch.tensor([4.0]).double())
    assert scale.inverse_std(torch.tensor([[0.5]])).item() == 2.0
    assert scale.inverse(torch.tensor([[0.5]])).item() == 12.0
    with pytest.raises(UserError, match="classes are not standardised"):
        scale(torch.tensor([[1]]))
    with pytest.raises(UserError, match=r"shape \(2, 3\): expected \(..., 1\)"):
        scale(torch.zeros(2, 3))


def test_an_unknown_name_lists_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"unknown data set 'irs': did you mean iris .*data_dir=FOLDER"):
        load_dataset("irs")
    (tmp_path / "boston.csv").write_text("x0,y\n1,2\n")
    with pytest.raises(UserError, match="did you mean boston"):
        load_dataset("bosten", data_dir=tmp_path)
    assert {"boston", "iris"} <= set(dataset_names(tmp_path)) and "boston" not in dataset_names()


def test_missing_scikit_learn_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match="'iris' comes with scikit-learn, which is missing: pip install scikit-learn"):
        load_dataset("iris")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("iris", {"split": -1}, "split=-1: expected an integer of at least 0"),
        ("iris", {"split": 1.5}, "split=1.5"),
        ("iris", {"test_fraction": 1.0}, "test_fraction=1.0: expected a number between 0 and 1"),
        ("iris", {"test_fraction": 0.001}, "leaves no rows"),
        ("iris", {"rows": 10}, "rows=10: expected None, the data set 'iris' has no such option"),
        ("iris", {"noise": 0.1}, "noise=0.1: expected None"),
        ("iris", {"standardise": "x"}, "standardise='x'"),
        ("iris", {"dtype": torch.int64}, "expected a floating torch.dtype"),
        ("iris", {"seed": -1}, "seed=-1"),
        ("moons", {"rows": 1}, "rows=1: expected an integer of at least 2"),
        ("moons", {"noise": -0.1}, "noise=-0.1"),
        ("moons", {"noise": float("nan")}, "noise=nan"),
        ("iris", {"data_dir": "no/such/folder"}, "data_dir='no/such/folder': expected an existing folder"),
    ],
)
def test_bad_options_are_named(sklearn, name, options, message):
    with pytest.raises(UserError, match=message):
        load_dataset(name, **options)
