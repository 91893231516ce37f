import json

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference.data import load_csv, load_dataset

ROWS = [(1, 10, 2), (2, 10, 4), (3, 10, 6), (6, 40, 100), (8, 10, -7)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "toy.csv"
    path.write_text("x0,x1,y\n" + "".join(f"{a},{b},{c}\n" for a, b, c in ROWS))
    (tmp_path / "toy.splits.json").write_text(json.dumps({"test": [[3, 4], [0]]}))
    return path


def test_a_split_file_says_which_rows_are_tested(file):
    data = load_csv(file, standardise=False)
    assert data.x_test.tolist() == [[6, 40], [8, 10]] and data.y_test.tolist() == [[100], [-7]]
    assert data.x_train.tolist() == [[1, 10], [2, 10], [3, 10]] and data.y_train.tolist() == [[2], [4], [6]]
    assert data.feature_names == ("x0", "x1") and data.task == "regression" and data.name == "toy"
    assert load_csv(file, split=1, standardise=False).y_test.tolist() == [[2]]


def test_statistics_come_from_the_training_rows_only(file):
    data = load_csv(file, dtype=torch.float64)
    assert data.y_standardiser.mean.item() == 4 and data.y_standardiser.std.item() == pytest.approx((8 / 3) ** 0.5)
    # The second column is constant in training: centred, its scale left alone.
    assert data.x_test[:, 1].tolist() == [30.0, 0.0]
    assert data.x_test[0, 0].item() == pytest.approx((6 - 2) / (2 / 3) ** 0.5)
    assert data.y_standardiser.inverse(data.y_test).tolist() == [[pytest.approx(100)], [pytest.approx(-7)]]


def test_by_name_from_a_folder(file):
    data = load_dataset("toy", split=1, data_dir=file.parent)
    assert len(data.x_test) == 1 and torch.equal(data.x_test, load_csv(file, split=1).x_test)
    with pytest.raises(UserError, match=r"test_fraction=0.2: expected None, the data set 'toy'"):
        load_dataset("toy", data_dir=file.parent, test_fraction=0.2)


def test_a_file_of_the_folder_goes_before_a_bundled_name(file):
    for end in (".csv", ".splits.json"):
        (file.parent / f"toy{end}").rename(file.parent / f"iris{end}")
    assert load_dataset("iris", data_dir=file.parent).feature_names == ("x0", "x1")


def test_other_ways_to_split(file):
    assert load_csv(file, splits=[[1]], standardise=False).y_test.tolist() == [[4]]
    assert load_csv(file, splits=file.with_suffix(".splits.json"), split=1).y_test.shape == (1, 1)
    first, other = (load_csv(file, splits="random", split=s, test_fraction=0.4).y_test for s in (0, 1))
    assert first.shape == (2, 1) and not torch.equal(first, other)


def test_targets_by_name(file):
    data = load_csv(file, targets=["x1", "y"], standardise=False)
    assert data.feature_names == ("x0",) and data.y_test.tolist() == [[40, 100], [10, -7]]


def test_classes_may_be_words_or_numbers(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("a,kind\n1,10\n2,9\n3,10\n4,2\n")
    data = load_csv(path, [[3]], targets="kind", task="classification")
    assert data.class_names == ("2", "9", "10")
    assert data.y_train.tolist() == [2, 1, 2] and data.y_test.tolist() == [0] and data.y_test.dtype == torch.int64
    path.write_text("a,kind\n1,dog\n2,cat\n3,dog\n")
    assert load_csv(path, [[0]], targets="kind", task="classification").class_names == ("cat", "dog")


CONTENT = {
    "header only": ("x,y\n", "has 1 lines: expected a header and at least one row"),
    "nothing": ("", "has 0 lines"),
    "short row": ("x,y\n1,2\n3\n", "row 1 has 1 values: expected 2"),
    "word": ("x,y\n1,2\nfoo,4\n", "row 1, column 'x' is 'foo': expected a number"),
    "empty cell": ("x,y\n1,2\n3,\n", "row 1, column 'y' is '': expected a number"),
    "NaN": ("x,y\n1,2\nnan,4\n", "row 1, column 'x' is nan: expected a finite number"),
    "infinite": ("x,y\n1,2\n1,inf\n", "row 1, column 'y' is inf"),
    "twice": ("x,x,y\n1,2,3\n", "expected column names that differ"),
    "no target": ("x,Y\n1,2\n", "unknown column of bad.csv 'y'"),
    "no feature": ("y\n1\n2\n", "expected at least one target and one feature"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_bad_files_are_named(tmp_path, case):
    text, message = CONTENT[case]
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        load_csv(tmp_path / "bad.csv", [[0]])


SPLITS = {
    "not JSON": ("{", "is not JSON"),
    "no list": ('{"train": []}', "has no list of lists under 'test'"),
    "rows, no lists": ('{"test": [1, 2]}', "has no list of lists under 'test'"),
    "outside": ('{"test": [[5]]}', "split 0 holds row 5: expected rows from 0 to 4"),
    "negative": ('{"test": [[-1]]}', "holds row -1"),
    "twice": ('{"test": [[1, 1]]}', "names a row twice"),
    "all": ('{"test": [[0, 1, 2, 3, 4]]}', "holds 5 of 5 rows"),
    "none": ('{"test": [[]]}', "holds 0 of 5 rows"),
    "word": ('{"test": [["1"]]}', "holds '1': expected row numbers"),
    "fraction": ('{"test": [[1.5]]}', "holds 1.5"),
}


@pytest.mark.parametrize("case", SPLITS)
def test_bad_splits_are_named(file, case):
    text, message = SPLITS[case]
    file.with_suffix(".splits.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load_csv(file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": 2}, "split=2: expected an integer from 0 to 1"),
        ({"split": True}, "split=True"),
        ({"splits": "gone.json"}, "splits='gone.json': expected an existing JSON file"),
        ({"task": "regresion"}, "unknown task 'regresion': did you mean regression"),
        ({"task": "classification", "targets": ["x1", "y"]}, "expected one column for a classification"),
        ({"test_fraction": 0.3}, "test_fraction=0.3: expected None unless splits is 'random'"),
        ({"splits": "random", "split": -1}, "split=-1: expected an integer of at least 0"),
        ({"targets": []}, "expected at least one target"),
    ],
)
def test_bad_arguments_are_named(file, options, message):
    with pytest.raises(UserError, match=message):
        load_csv(file, **options)


def test_missing_files(file):
    with pytest.raises(UserError, match=r"gone.csv': expected an existing CSV file"):
        load_csv(file.parent / "gone.csv")
    file.with_suffix(".splits.json").unlink()
    with pytest.raises(UserError, match=r"there is no toy.splits.json beside toy.csv; give splits='random'"):
        load_csv(file)
