"""The percentile version against rliable itself: ``pip install dynapilco[rliable]`` (it needs pandas 2)."""

import importlib

import numpy as np
import pytest

from dynapilco.compare.stats import aggregate_scores
from dynapilco.compare.stats.aggregate import iqm, mean, median, optimality_gap
from dynapilco.compare.stats.improvement import improvement_interval, probability_of_improvement
from dynapilco.compare.stats.scores import profile

RNG = np.random.default_rng(0)
SCORES = {
    "beta": RNG.beta(2, 3, size=(10, 4)),
    "bimodal": np.where(RNG.random((10, 4)) < 0.6, 0.9, 0.2) + RNG.normal(0, 0.05, (10, 4)),
    "ties": RNG.integers(0, 5, size=(10, 4)) / 4.0,
    "five seeds": RNG.lognormal(size=(5, 3)),
    "one task": RNG.normal(size=(10, 1)),
}
RESAMPLES = 4_000


@pytest.fixture(scope="module")
def rliable():
    try:
        return importlib.import_module("rliable.library"), importlib.import_module("rliable.metrics")
    except (ImportError, TypeError) as error:  # arch beside pandas 3 raises TypeError at import
        pytest.skip(f"rliable is not installed or cannot be imported ({error}): pip install 'dynapilco[rliable]'")


def strata(scores):
    return list(scores.T)


@pytest.mark.parametrize("name", SCORES)
def test_point_estimates_are_equal_to_1e_12(rliable, name):
    _, metrics = rliable
    scores = SCORES[name]
    assert abs(iqm(strata(scores)) - metrics.aggregate_iqm(scores)) < 1e-12
    assert abs(mean(strata(scores)) - metrics.aggregate_mean(scores)) < 1e-12
    assert abs(median(strata(scores)) - metrics.aggregate_median(scores)) < 1e-12
    assert abs(optimality_gap(strata(scores)) - metrics.aggregate_optimality_gap(scores)) < 1e-12


@pytest.mark.parametrize("pair", [("beta", "bimodal"), ("ties", "beta"), ("ties", "ties")])
def test_the_probability_of_improvement_is_equal_to_1e_12(rliable, pair):
    _, metrics = rliable
    x, y = SCORES[pair[0]], SCORES[pair[1]][::-1]
    assert abs(probability_of_improvement(strata(x), strata(y)) - metrics.probability_of_improvement(x, y)) < 1e-12


@pytest.mark.parametrize("name", SCORES)
def test_profiles_are_equal_to_1e_12(rliable, name):
    library, _ = rliable
    scores, thresholds = SCORES[name], np.linspace(-1, 2, 31)
    ours, _, _ = profile(strata(scores), thresholds, np.random.default_rng(0), "percentile")
    assert np.abs(ours - library.score_distributions(scores, thresholds)).max() < 1e-12


@pytest.mark.parametrize("name", SCORES)
def test_percentile_bounds_are_the_quantiles_of_rliables_bootstrap(rliable, name):
    """Our bounds cut 2.5 % from rliable's own resamples, within five standard errors of the two samples' shares."""
    library, metrics = rliable
    functions = {
        "iqm": metrics.aggregate_iqm,
        "mean": metrics.aggregate_mean,
        "median": metrics.aggregate_median,
        "optimality_gap": metrics.aggregate_optimality_gap,
    }
    np.random.seed(0)  # rliable draws from the global generator
    bootstrap = library.StratifiedBootstrap(SCORES[name])
    theirs = bootstrap.apply(lambda x: np.array([f(x) for f in functions.values()]), reps=RESAMPLES)
    ours = aggregate_scores({name: SCORES[name]}, interval="percentile", resamples=5 * RESAMPLES).set_index("statistic")
    allowed = 5 * np.sqrt(0.025 * 0.975 * (1 / RESAMPLES + 1 / (5 * RESAMPLES)))
    for values, statistic in zip(theirs.T, functions, strict=True):
        for bound, side in ((ours.loc[statistic, "low"], 1), (ours.loc[statistic, "high"], -1)):
            beyond, at_least = (np.mean(side * (bound - values) > eps) for eps in (1e-9, -1e-9))  # ties count half-way
            assert beyond - allowed <= 0.025 <= at_least + allowed, (statistic, side)


def test_intervals_are_those_of_get_interval_estimates(rliable):
    library, metrics = rliable
    np.random.seed(0)
    scores = SCORES["beta"]
    _, theirs = library.get_interval_estimates(
        {"x": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=4_000
    )
    ours = aggregate_scores({"x": scores}, interval="percentile", resamples=20_000).set_index("statistic")
    assert ours.loc["iqm", ["low", "high"]].tolist() == pytest.approx(theirs["x"][:, 0].tolist(), abs=0.015)


def test_intervals_of_pairs_and_profiles_agree_within_the_error_of_the_bootstrap(rliable):
    library, metrics = rliable
    x, y = SCORES["beta"], SCORES["bimodal"]
    np.random.seed(1)
    _, theirs = library.get_interval_estimates(
        {"pair": [x, y]}, lambda a, b: np.array([metrics.probability_of_improvement(a, b)]), reps=1_000
    )
    _, low, high = improvement_interval(strata(x), strata(y), np.random.default_rng(0), "percentile", 4_000)
    assert (low, high) == pytest.approx(tuple(theirs["pair"][:, 0]), abs=0.03)
    thresholds = np.linspace(0, 1, 11)
    _, bands = library.create_performance_profile({"x": x}, thresholds, reps=1_000)
    _, low, high = profile(strata(x), thresholds, np.random.default_rng(0), "percentile")
    assert np.abs(np.stack([low, high]) - bands["x"]).max() <= 2 / x.size + 1e-12
