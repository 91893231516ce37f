import numpy as np
import pytest
from scipy import stats

from dynapilco.compare.stats import statistics
from dynapilco.compare.stats.rates import wilson
from dynapilco.compare.stats.survival import Times, kaplan_meier
from dynapilco.core.errors import UserError


def test_kaplan_meier_by_hand():
    """Product-limit: 1 - 1/6, then a censored seed leaves, then times 1 - 2/4."""
    curve = kaplan_meier(Times(np.array([1.0, 3.0, 3.0]), np.array([2.0, 4.0, 4.0])))
    at = curve.set_index("trial")
    assert at.loc[1, "not_yet"] == pytest.approx(5 / 6)
    assert at.loc[3, "not_yet"] == pytest.approx(5 / 6 * 2 / 4)
    assert at.loc[3, "at_risk"] == 4 and at.loc[3, "succeeded"] == 2
    assert at.loc[1, "low"] == pytest.approx(wilson(np.array(5 / 6), 6)[0])
    scipys = stats.ecdf(stats.CensoredData(uncensored=[1, 3, 3], right=[2, 4, 4])).sf.confidence_interval(
        method="log-log"
    )
    assert at.loc[3, "low"] == pytest.approx(scipys.low.evaluate(3.0))
    assert (curve["low"] <= curve["not_yet"]).all() and (curve["not_yet"] <= curve["high"]).all()


def test_ends_of_the_curve_keep_an_interval_where_greenwoods_variance_is_zero():
    everyone = kaplan_meier(Times(np.array([1.0, 2.0]), np.array([])))
    assert everyone["not_yet"].iloc[-1] == 0 and everyone["high"].iloc[-1] > 0.3
    nobody = kaplan_meier(Times(np.array([]), np.array([3.0, 5.0])))
    assert (nobody["not_yet"] == 1).all() and (nobody["low"] < 0.7).all()


def test_seeds_that_never_succeed_are_censored_and_the_tests_see_the_difference(tables):
    result = statistics(*tables, resamples=200)
    medians = result.trials_to_success.set_index(["task", "method"])
    assert medians.loc[("A-v0", "good"), "median"] == 2
    assert medians.loc[("A-v0", "bad"), ["succeeded", "censored"]].tolist() == [5, 5]
    assert (result.survival_tests["verdict"] == "good succeeds sooner").all()
    assert (result.survival_tests["p_holm"] >= result.survival_tests["p"]).all()
    runs = tables[0]
    own = runs[(runs["task"] == "A-v0") & runs["first_success_trial"].notna()].groupby("method")["first_success_trial"]
    x, y = own.get_group("good"), own.get_group("bad")
    expected = stats.logrank(x.to_numpy(), stats.CensoredData(uncensored=y, right=[4.0] * 5))
    assert result.survival_tests["p"].iloc[0] == pytest.approx(expected.pvalue)


def test_a_failed_run_never_succeeded_and_is_censored_at_the_full_budget(tables):
    runs, trials = tables
    failed = (runs["task"] == "A-v0") & (runs["method"] == "good") & (runs["seed"] == 3)
    runs.loc[failed, "status"] = "failed"
    gone = (trials["task"] == "A-v0") & (trials["method"] == "good") & (trials["seed"] == 3) & (trials["trial"] > 1)
    result = statistics(runs, trials[~gone], resamples=200)
    own = result.trials_to_success.set_index(["task", "method"]).loc[("A-v0", "good")]
    assert (own["succeeded"], own["censored"]) == (9, 1)
    curve = result.survival.set_index(["task", "method", "trial"])
    assert curve.loc[("A-v0", "good", 2), "not_yet"] == pytest.approx(0.1)
    assert curve.loc[("A-v0", "good", 4), "at_risk"] == 1
    rates = result.success.set_index(["task", "method", "trial"])
    assert rates.loc[("A-v0", "good", 4), ["successes", "seeds"]].tolist() == [9, 10]


def test_nobody_ever_succeeded_is_not_a_difference(make):
    runs, trials = make()
    task_a = runs["task"] == "A-v0"
    runs.loc[task_a & (runs["method"] == "good"), "first_success_trial"] = np.nan
    runs.loc[task_a & (runs["method"] == "bad"), "first_success_trial"] = np.nan
    runs.loc[task_a & (runs["seed"] == 0) & (runs["method"] == "bad"), "first_success_trial"] = 4
    result = statistics(runs, trials, resamples=200)
    own = result.survival_tests.set_index("task").loc["A-v0"]
    assert own["verdict"] == "no difference shown"
    assert "not reached (95 % interval beyond the budget to beyond the budget; 0 of 10 seeds ever)" in "".join(
        result.sentences
    )


def test_a_success_after_the_last_trial_is_refused(tables):
    runs, trials = tables
    runs.loc[4, "first_success_trial"] = 9
    with pytest.raises(UserError, match="first_success_trial 9 of A-v0 / good / seed 4 lies after its last trial"):
        statistics(runs, trials)
