import numpy as np
import pytest
from scipy import stats

from dynapilco.compare.stats.aggregate import iqm, mean, median, optimality_gap
from dynapilco.compare.stats.improvement import probability_of_improvement

SCORES = np.random.default_rng(0).lognormal(size=(10, 4))


def strata(scores):
    return list(np.moveaxis(scores, -1, 0))


@pytest.mark.parametrize("seeds", [1, 2, 3, 4, 5, 8, 9, 10])
def test_the_iqm_is_scipys_trimmed_mean(seeds):
    scores = SCORES[:seeds]
    assert iqm(strata(scores)) == pytest.approx(stats.trim_mean(scores, 0.25, axis=None), abs=1e-14)


def test_aggregates_by_hand():
    scores = np.array([[0.0, 1.0, 0.5], [1.0, 3.0, 0.7]])
    assert mean(strata(scores)) == pytest.approx((0.5 + 2.0 + 0.6) / 3)
    assert median(strata(scores)) == pytest.approx(0.6)
    assert optimality_gap(strata(scores)) == pytest.approx(1 - (0.5 + 1.0 + 0.6) / 3)


def test_leading_axes_are_independent_data_sets():
    batch = np.random.default_rng(1).normal(size=(5, 2, 7, 3))
    parts = [batch[..., t] for t in range(3)]
    for function in (iqm, mean, median, optimality_gap):
        assert function(parts).shape == (5, 2)
        assert function(parts)[3, 1] == pytest.approx(function(strata(batch[3, 1])), abs=1e-14)


def test_tasks_may_have_different_numbers_of_seeds():
    assert mean([np.array([0.0, 1.0]), np.array([1.0])]) == pytest.approx(0.75)


def test_the_probability_of_improvement_is_mann_whitney_with_ties_as_halves():
    rng = np.random.default_rng(2)
    x, y = rng.integers(5, size=(9, 2)).astype(float), rng.integers(5, size=(7, 2)).astype(float)
    expected = [stats.mannwhitneyu(x[:, t], y[:, t]).statistic / 63 for t in range(2)]
    assert probability_of_improvement(strata(x), strata(y)) == pytest.approx(np.mean(expected), abs=1e-14)
    assert probability_of_improvement(strata(x), strata(x)) == 0.5
