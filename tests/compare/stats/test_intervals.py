import numpy as np
import pytest
from scipy import stats

from dynapilco.cli.statistics import wilson_interval
from dynapilco.compare.stats.aggregate import AGGREGATES, iqm
from dynapilco.compare.stats.bootstrap import percentile_interval
from dynapilco.compare.stats.intervals import aggregate_interval, pivotal_median, welch
from dynapilco.compare.stats.rates import effective_count, wilson


def rng():
    return np.random.default_rng(0)


@pytest.fixture
def scores():
    return np.random.default_rng(3).normal([0.0, 1.0, 3.0], [1.0, 2.0, 0.5], size=(10, 3))


def test_one_task_gives_students_interval(scores):
    expected = stats.ttest_1samp(scores[:, 0], 0.0).confidence_interval(0.95)
    assert welch([scores[:, 0]]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert pivotal_median([scores[:, 0]], rng(), 100) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_two_tasks_have_the_degrees_of_freedom_of_welchs_test(scores):
    """The mean over two tasks is half the difference of one and the negative of the other."""
    expected = stats.ttest_ind(scores[:, 0], -scores[:, 1], equal_var=False).confidence_interval(0.95)
    low, high = welch([scores[:, 0], scores[:, 1]])
    assert (low, high) == pytest.approx((expected.low / 2, expected.high / 2), abs=1e-12)


def test_the_percentile_interval_is_scipys_within_the_error_of_the_bootstrap(scores):
    ours = percentile_interval([scores[:, 0]], iqm, rng(), 20_000)
    theirs = stats.bootstrap(
        (scores[:, 0],), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=20_000, method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03)


@pytest.mark.parametrize("statistic", AGGREGATES)
@pytest.mark.parametrize("kind", ["calibrated", "percentile"])
def test_every_interval_holds_its_estimate_and_depends_on_the_generator_alone(scores, statistic, kind):
    first = aggregate_interval(list(scores.T), statistic, rng(), kind, 500)
    assert first[1] < first[0] < first[2]
    assert first == aggregate_interval(list(scores.T), statistic, rng(), kind, 500)


def test_the_default_interval_of_the_iqm_is_wider_than_the_percentile_one(scores):
    default = aggregate_interval(list(scores.T), "iqm", rng(), "calibrated", 4_000)
    percentile = aggregate_interval(list(scores.T), "iqm", rng(), "percentile", 4_000)
    assert 1.05 < (default[2] - default[1]) / (percentile[2] - percentile[1]) < 1.3


@pytest.mark.parametrize("statistic", AGGREGATES)
def test_one_seed_has_no_interval(statistic):
    estimate, low, high = aggregate_interval([np.array([0.5]), np.array([0.7, 0.8])], statistic, rng())
    assert np.isfinite(estimate) and np.isnan(low) and np.isnan(high)


def test_wilson_is_the_command_lines_and_scipys():
    for successes, count in [(0, 7), (3, 10), (10, 10), (1, 50)]:
        low, high = wilson(np.array(successes / count), count)
        expected = stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert (low, high) == pytest.approx(wilson_interval(successes, count), abs=1e-9)


def test_balanced_tasks_are_worth_all_their_seeds():
    assert effective_count([10, 10, 10]) == pytest.approx(30)
    assert effective_count([5, 20]) < 25


@pytest.mark.parametrize(
    ("family", "tasks"), [("normal", 1), ("normal", 3), ("bimodal", 1), ("bimodal", 3), ("lognormal", 2)]
)
def test_the_iqms_interval_covers_in_a_short_simulation(family, tasks):
    """600 repetitions: a standard error of 0.9 %; 5,000 are in docs/results/interval-coverage.md."""
    simulate = {
        "normal": lambda g, n: g.normal(size=n),
        "bimodal": lambda g, n: np.where(g.random(n) < 0.6, g.normal(0.9, 0.05, n), g.normal(0.2, 0.1, n)),
        "lognormal": lambda g, n: g.lognormal(size=n),
    }[family]
    draw = np.random.default_rng(7)
    large = np.sort(simulate(draw, 1_000_000))
    truth = large[250_000:750_000].mean()
    strata = [simulate(draw, (600, 10)) for _ in range(tasks)]
    _, low, high = aggregate_interval(strata, "iqm", rng(), resamples=600)
    assert 0.92 < np.mean((low <= truth) & (truth <= high)) < 0.985
