"""Robustness tables: what each corruption does to the inputs, and that the rows say it."""

import math

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics import CORRUPTIONS, accuracy, nll_categorical, robustness


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x():
    return torch.randn(5000, 2, generator=generator(), dtype=torch.float64) * torch.tensor([1.0, 10.0]) + 3


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_severity_zero_is_the_clean_input_and_randomness_is_shared(x, kind):
    corrupt = CORRUPTIONS[kind](x, generator(1))
    torch.testing.assert_close(corrupt(0.0), x)
    torch.testing.assert_close(corrupt(0.5), CORRUPTIONS[kind](x, generator(1))(0.5))
    assert corrupt(0.5).shape == x.shape and corrupt(0.5).dtype == x.dtype
    assert not torch.allclose(corrupt(0.5), x)


def test_corruptions_move_inputs_by_what_they_state(x):
    sd = x.std(0, correction=0)
    noise = CORRUPTIONS["gaussian"](x, generator(1))(0.5) - x
    torch.testing.assert_close(noise.std(0), 0.5 * sd, rtol=0.05, atol=0)  # 5 standard errors
    dropped = CORRUPTIONS["dropout"](x, generator(1))(0.3)
    changed = dropped != x
    assert abs(float(changed.double().mean()) - 0.3) < 5 * math.sqrt(0.21 / x.numel())
    torch.testing.assert_close(dropped[changed], x.mean(0).expand_as(x)[changed])
    shift = CORRUPTIONS["shift"](x, generator(1))(2.0) - x
    torch.testing.assert_close(shift.abs(), (2 * sd).expand_as(x))
    assert bool((shift.sign() == shift[0].sign()).all())
    scaled = CORRUPTIONS["scale"](x, generator(1))(1.0)
    torch.testing.assert_close(scaled.std(0, correction=0), 2 * sd)
    torch.testing.assert_close(scaled.mean(0), x.mean(0))


def test_rows_of_a_regression_are_its_known_scores(x, gaussian_predictive):
    """The model is the identity on the second input: the error is the corruption itself."""
    y, one = x[:, 1:], torch.ones(len(x), 1, dtype=torch.float64)

    def predict(inputs):
        return gaussian_predictive(inputs[:, 1:], 4 * one, 9 * one)

    rows = robustness(predict, x, y, [0.0, 1.0], generator(2), kinds=("shift", "gaussian"))
    assert [(row.kind, row.severity) for row in rows] == [
        ("shift", 0.0), ("shift", 1.0), ("gaussian", 0.0), ("gaussian", 1.0),
    ]  # fmt: skip
    sd = float(y.std(correction=0))
    assert all(row.task == "regression" and row.epistemic == 2 and row.aleatoric == 3 for row in rows)
    assert rows[0].error == 0 and rows[1].error == pytest.approx(sd)
    constant = 0.5 * math.log(2 * math.pi * 13)
    assert rows[0].nll == pytest.approx(constant) and rows[1].nll == pytest.approx(constant + sd**2 / 26)
    assert rows[3].error == pytest.approx(sd, rel=0.05)


def test_rows_of_a_classification(blobs):
    x, labels, predict = blobs
    rows = robustness(predict, x, labels, [0.0, 2.0], generator(3), kinds=("gaussian",))
    clean = predict(x)
    assert rows[0].task == "classification"
    assert rows[0].error == pytest.approx(1 - float(accuracy(clean.probabilities, labels)))
    assert rows[0].nll == pytest.approx(float(nll_categorical(clean.probabilities, labels)))
    assert rows[0].epistemic == pytest.approx(float(clean.epistemic.mean()))
    assert rows[0].aleatoric == pytest.approx(float(clean.aleatoric.mean()))
    assert rows[1].error > rows[0].error + 0.1


def test_the_same_generator_gives_the_same_table(blobs):
    x, labels, predict = blobs
    kinds = tuple(CORRUPTIONS)
    tables = [robustness(predict, x, labels, [0.5], generator(seed), kinds) for seed in (4, 4, 5)]
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ("gausian",)}, "unknown corruption 'gausian': did you mean gaussian"),
        ({"kinds": "shift"}, "expected a sequence of names"),
        ({"kinds": ()}, "at least one of each"),
        ({"severities": [-1.0]}, "severities has -1.0"),
        ({"severities": [math.nan]}, "severities has nan"),
        ({"severities": [1.5]}, "at most 1"),
        ({"x": torch.full((4, 2), torch.nan)}, "x has 8 NaN"),
        ({"x": torch.zeros(4, 2, dtype=torch.long)}, "x is torch.int64"),
        ({"y": torch.zeros(3, 1)}, r"y \(3, 1\)"),
    ],
)
def test_bad_input_is_named_before_any_prediction(change, message):
    def predict(inputs):
        raise AssertionError("predicted before the input was checked")

    arguments = {"x": torch.zeros(4, 2), "y": torch.zeros(4, 1), "severities": [0.1], "generator": generator()}
    with pytest.raises(UserError, match=message):
        robustness(predict, **{**arguments, **change})
