"""Scores of class probabilities against scikit-learn and numbers by hand."""

import math

import numpy as np
import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics import (
    accuracy,
    auroc,
    auroc_macro,
    brier,
    ece,
    nll_categorical,
    reliability_bins,
)

metrics = pytest.importorskip("sklearn.metrics")
calibration = pytest.importorskip("sklearn.calibration")

B, C = 400, 4


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(B, C, generator=g, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(0.5 * logits, 1), 1, generator=g)[:, 0]
    return torch.softmax(logits, 1), labels


@pytest.mark.parametrize(("kind", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_the_bins_are_those_of_scikit_learn_and_ece_weighs_their_gaps(case, kind, strategy):
    probabilities, labels = case
    confidence, predicted = probabilities.max(1)
    right = (predicted == labels).numpy()
    expected_right, expected_confidence = calibration.calibration_curve(right, confidence, n_bins=10, strategy=strategy)
    binned = reliability_bins(probabilities, labels, 10, kind)
    np.testing.assert_allclose(binned.accuracy, expected_right, atol=1e-12)
    np.testing.assert_allclose(binned.confidence, expected_confidence, atol=1e-12)
    assert int(binned.count.sum()) == B
    if kind == "mass":
        assert binned.count.tolist() == [B // 10] * 10
    gaps = np.abs(expected_right - expected_confidence)
    assert float(ece(probabilities, labels, 10, kind)) == pytest.approx(float(binned.count.numpy() @ gaps / B))
    assert float(ece(probabilities, labels, 10, kind)) > 0.05  # the case is overconfident


def test_ece_by_hand_with_bins_of_unequal_size():
    first = torch.tensor([0.9, 0.9, 0.9, 0.6])
    probabilities, labels = torch.stack([first, 1 - first], 1), torch.tensor([0, 0, 1, 1])
    assert float(ece(probabilities, labels, 5)) == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.6, abs=1e-6)


def test_bins_are_closed_on_the_right():
    first = torch.tensor([0.75, 0.6, 0.76])
    probabilities, labels = torch.stack([first, 1 - first], 1), torch.tensor([0, 0, 0])
    assert reliability_bins(probabilities, labels, 4).count.tolist() == [2, 1]
    assert reliability_bins(probabilities, labels, 2, "mass").count.tolist() == [2, 1]


def test_equal_confidences_share_a_bin_so_that_the_order_does_not_matter():
    first = torch.full((100,), 0.7)
    probabilities, labels = torch.stack([first, 1 - first], 1), (torch.arange(100) >= 70).long()
    for order in (torch.arange(100), torch.randperm(100, generator=torch.Generator().manual_seed(0))):
        for kind in ("width", "mass"):
            assert float(ece(probabilities, labels[order], 10, kind)) == pytest.approx(0, abs=1e-6)


def test_brier_nll_and_accuracy_are_those_of_scikit_learn(case):
    probabilities, labels = case
    p, t = probabilities.numpy(), labels.numpy()
    assert float(brier(*case)) == pytest.approx(metrics.brier_score_loss(t, p, scale_by_half=False))
    assert float(nll_categorical(*case)) == pytest.approx(metrics.log_loss(t, p))
    assert float(accuracy(*case)) == pytest.approx(metrics.accuracy_score(t, p.argmax(1)))
    for score in (brier, nll_categorical, accuracy):
        each = score(*case, reduction="none")
        assert each.shape == (B,) and float(each.mean()) == pytest.approx(float(score(*case)))


def test_the_binary_brier_score_is_twice_the_one_sided_one():
    first = torch.tensor([0.2, 0.8, 0.7])
    labels = torch.tensor([0, 1, 0])
    expected = 2 * metrics.brier_score_loss(labels, first)
    assert float(brier(torch.stack([1 - first, first], 1), labels)) == pytest.approx(expected)


def test_certainty_that_is_wrong_costs_infinity_and_not_less():
    assert math.isinf(float(nll_categorical(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))))


@pytest.mark.parametrize("levels", [1000, 4])
def test_auroc_is_that_of_scikit_learn_with_ties_or_without(levels):
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 2, (200,), generator=g)
    scores = ((torch.randn(200, generator=g) + labels) * levels / 4).round()
    expected = metrics.roc_auc_score(labels, scores)
    assert float(auroc(scores, labels)) == pytest.approx(expected)
    assert float(auroc(scores, labels.bool())) == pytest.approx(expected)
    assert float(auroc(torch.zeros(200), labels)) == 0.5


def test_macro_auroc_is_that_of_scikit_learn(case):
    expected = metrics.roc_auc_score(case[1], case[0], multi_class="ovr", average="macro")
    assert float(auroc_macro(*case)) == pytest.approx(expected)


HALF = torch.tensor([[0.5, 0.5], [0.1, 0.9]])
BAD = [
    (lambda: ece(2 * HALF, torch.tensor([0, 1])), "outside"),
    (lambda: brier(0.9 * HALF, torch.tensor([0, 1])), "2 of 2 rows that do not sum to one"),
    (lambda: brier(HALF[0], torch.tensor([0, 1])), "probabilities has shape"),
    (lambda: accuracy(HALF, torch.tensor([0, 2])), "labels has 1 of 2 entries outside 0..1"),
    (lambda: accuracy(HALF, torch.tensor([0.0, 1.0])), "labels is torch.float32"),
    (lambda: accuracy(HALF, torch.tensor([0, 1, 1])), "labels has shape"),
    (lambda: nll_categorical(HALF * torch.nan, torch.tensor([0, 1])), "probabilities has 4 NaN"),
    (lambda: ece(HALF, torch.tensor([0, 1]), bins=0), "bins is 0"),
    (lambda: ece(HALF, torch.tensor([0, 1]), kind="size"), "kind is 'size'"),
    (lambda: auroc(torch.tensor([0.1, 0.2]), torch.tensor([1, 1])), "2 positives and 0 negatives"),
    (lambda: auroc_macro(HALF, torch.tensor([0, 0])), r"no example of class \[1\]"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
