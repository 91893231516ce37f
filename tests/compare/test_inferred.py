"""What is said of a comparison that is half there."""

import numpy as np
import pytest

from dynapilco import compare

TASK, CART = "dynapilco/PendulumSwingUp-v0", "dynapilco/CartPoleSwingUp-v0"


@pytest.fixture
def tables(written):
    runs, trials = compare.load(written.root)
    again = [frame.assign(task=CART) for frame in (runs, trials)]
    import pandas as pd

    return pd.concat([runs, again[0]], ignore_index=True), pd.concat([trials, again[1]], ignore_index=True)


def test_the_package_has_what_the_command_has(written):
    runs, trials = compare.load(written.root)
    strict = compare.statistics(runs[runs["status"] == "done"], trials[trials["method"] == "ensemble"])
    assert isinstance(strict, compare.Statistics)
    assert callable(compare.run) and callable(compare.save)
    page = compare.report(written.root)
    assert page == written.root / "report.html" and "ensemble" in page.read_text()


def test_tasks_are_put_together_by_the_documented_anchors(tables):
    stats, notes = compare.infer(*tables)
    assert stats is not None and not notes
    assert stats.sentences[0].startswith("On all tasks: no difference shown; with one seed")
    assert list(stats.settings["anchors"]) == [TASK, CART]


def test_a_task_that_a_method_has_not_reached_is_left_out(tables):
    runs, trials = tables
    runs.loc[(runs["task"] == CART) & (runs["method"] == "swag"), "status"] = "missing"
    stats, notes = compare.infer(runs, trials)
    assert notes == [f"no run of swag has ended on {CART} yet: no statistics there"]
    assert set(stats.aggregates["task"]) == {TASK}
    runs.loc[runs["method"] == "swag", "status"] = "missing"
    stats, notes = compare.infer(runs, trials)
    assert notes == ["no run of swag has come to its end yet: nothing is said of it"]
    assert set(stats.aggregates["task"]) == {TASK, CART, "all tasks"}
    runs["status"] = "missing"
    assert compare.infer(runs, trials) == (None, ["no statistics: no run has come to its end yet"])


def test_a_score_that_is_no_number_costs_one_run_and_not_the_statistics(tables):
    runs, trials = tables
    runs.loc[1, "score"] = np.nan
    stats, notes = compare.infer(runs, trials)
    assert notes == [
        "1 runs came to their end with a score or a success rate that is no number; they count as failed: "
        f"{TASK} ensemble seed 1"
    ]
    row = stats.aggregates.query("task == @TASK and method == 'ensemble' and metric == 'score' and statistic == 'mean'")
    assert row["failed"].item() == 1 and row["estimate"].item() == pytest.approx((10.0 + 0.02) / 2)


def test_a_trial_that_broke_off_is_no_success_and_not_the_end_of_all_statistics(tables):
    runs, trials = tables
    broken = (trials["method"] == "ensemble") & (trials["seed"] == 0) & (trials["trial"] == 2)
    trials.loc[broken, "success"] = None
    stats, notes = compare.infer(runs, trials)
    assert len(notes) == 1 and notes[0].startswith("2 trials broke off; they count as without success")
    rates = stats.success.query("task == @TASK and method == 'ensemble' and trial == 2")
    assert rates["successes"].item() == 0 and rates["seeds"].item() == 2


def test_tasks_without_a_rule_of_success_have_statistics(tables):
    runs, trials = tables
    runs["success_rate"], trials["success"] = np.nan, None
    stats, notes = compare.infer(runs, trials.astype({"success": "boolean"}))
    assert stats is not None and not notes and stats.success.empty


def test_all_runs_failed_without_anchors(tables):
    runs, trials = tables
    runs, trials = (frame.replace({CART: "me/Tank-v0"}) for frame in (runs, trials))
    runs.loc[(runs["task"] == "me/Tank-v0") & (runs["status"] == "done"), "status"] = "failed"
    stats, notes = compare.infer(runs, trials)
    assert notes == ["every run on me/Tank-v0 failed, and it has no anchors: no statistics there"]
    assert set(stats.aggregates["task"]) == {TASK}
