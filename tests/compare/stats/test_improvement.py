import itertools

import numpy as np
import pytest

from dynapilco.compare.stats.improvement import (
    holm,
    improvement_interval,
    permutation_test,
    probability_of_improvement,
    score_interval,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def variance(theta, m, n):
    spread = (1 - theta) / (2 - theta) + theta / (1 + theta)
    return theta * (1 - theta) * (1 + ((m + n) / 2 - 1) * spread) / (m * n)


@pytest.mark.parametrize("estimate", [0.1, 0.5, 0.83])
def test_the_bounds_solve_the_score_equation(estimate):
    for bound in score_interval(np.array(estimate), [(10, 7)]):
        assert abs(estimate - bound) == pytest.approx(1.959964 * np.sqrt(variance(bound, 10, 7)), abs=1e-6)


def test_the_score_interval_is_symmetric_and_keeps_a_width_at_the_ends():
    low, high = score_interval(np.array(1.0), [(10, 10)])
    assert 0.6 < low < 0.9 and high == 1.0
    assert score_interval(np.array(0.0), [(10, 10)]) == pytest.approx((0.0, 1 - low), abs=1e-12)


def test_more_tasks_narrow_the_interval():
    one, four = (score_interval(np.array(0.7), [(10, 10)] * tasks) for tasks in (1, 4))
    assert four[1] - four[0] < 0.6 * (one[1] - one[0])


def test_the_percentile_interval_equals_a_plain_resampling_within_the_error_of_the_bootstrap():
    x, y = [rng(1).normal(0.5, size=8), rng(2).normal(size=9)], [rng(3).normal(size=7), rng(4).normal(size=9)]
    estimate, low, high = improvement_interval(x, y, rng(), "percentile", 20_000)
    draw = rng(9)
    plain = [
        probability_of_improvement([draw.choice(v, len(v)) for v in x], [draw.choice(v, len(v)) for v in y])
        for _ in range(5_000)
    ]
    assert estimate == probability_of_improvement(x, y)
    assert (low, high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.02)


def test_the_permutation_test_is_the_exact_one():
    x, y = np.array([3.1, 2.0, 5.5, 4.0]), np.array([1.0, 2.5, 0.3, 2.0])
    pooled = np.concatenate([x, y])
    observed = abs(probability_of_improvement([x], [y]) - 0.5)
    extreme = []
    for chosen in itertools.combinations(range(8), 4):
        rest = [i for i in range(8) if i not in chosen]
        extreme.append(abs(probability_of_improvement([pooled[list(chosen)]], [pooled[rest]]) - 0.5) >= observed - 1e-9)
    assert permutation_test([x], [y], rng(), 20_000) == pytest.approx(np.mean(extreme), abs=0.01)


def test_p_values_are_valid_where_nothing_differs_and_small_where_it_does():
    p = [permutation_test([rng(i).normal(size=6)], [rng(1_000 + i).normal(size=6)], rng(), 400) for i in range(300)]
    assert np.mean(np.array(p) <= 0.05) < 0.09
    assert permutation_test([np.arange(10.0) + 100], [np.arange(10.0)], rng()) < 0.001
    assert permutation_test([np.ones(5)], [np.ones(5)], rng()) == 1.0


def test_tasks_that_disagree_cancel():
    up, down = np.arange(8.0) + 100, np.arange(8.0)
    assert permutation_test([up, down], [down, up], rng()) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    corrected = holm([0.01, np.nan, 0.04])
    assert corrected[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(corrected[1])
    assert len(holm([])) == 0
