"""Scores of several tasks on one scale, by anchors; never without them."""

import numpy as np
import pytest

from dynapilco.compare.stats import statistics
from dynapilco.compare.stats.aggregate import iqm
from dynapilco.compare.stats.anchors import DOCUMENTED, anchors_of
from dynapilco.core.errors import UserError

ANCHORS = {"A-v0": (10, 110), "B-v0": (-50, 150)}


@pytest.fixture
def runs(make):
    """Raw scores alone, on scales of their own."""
    found = make(normalised=False)[0].drop(columns="success_rate")
    found.loc[found["task"] == "B-v0", "score"] *= 2
    return found


def test_the_iqm_over_tasks_is_that_of_the_scores_between_the_anchors(runs):
    result = statistics(runs, anchors=ANCHORS, resamples=200)
    low, span = runs["task"].map({"A-v0": 10, "B-v0": -50}), runs["task"].map({"A-v0": 100, "B-v0": 200})
    own = ((runs["score"] - low) / span)[runs["method"] == "good"].to_numpy().reshape(2, 10)
    table = result.aggregates
    row = table.query("task == 'all tasks' and method == 'good' and statistic == 'iqm'")
    assert row["estimate"].item() == pytest.approx(float(iqm(list(own)))) and row["metric"].item() == "normalised"
    assert row["low"].item() < row["estimate"].item() < row["high"].item()
    assert set(table.loc[table["task"] == "all tasks", "statistic"]) == {"iqm", "mean", "median", "optimality_gap"}
    assert set(table.loc[table["task"] != "all tasks", "metric"]) == {"score"}
    said = "\n".join(result.sentences)
    assert result.sentences[0].startswith("On all tasks, by normalised score: good leads")
    assert "On A-v0, by score: good leads" in said and "A-v0 0 = 10, 1 = 110 (given)" in said
    assert result.settings["anchors"]["B-v0"] == [-50.0, 150.0, "given"]


def test_one_task_without_anchors_and_nothing_is_put_together(runs):
    result = statistics(runs, anchors={"A-v0": (0, 100)}, resamples=200)
    assert "all tasks" not in set(result.aggregates["task"])
    assert any("no anchors are known for B-v0 (give" in sentence for sentence in result.sentences)
    assert result.sentences[0].startswith(
        "On all tasks, by score"
    )  # pairs need no scale: runs are compared within tasks
    assert "No common scale over the tasks" in result.sentences[0]


def test_a_single_task_is_told_in_its_own_units(runs):
    result = statistics(runs[runs["task"] == "A-v0"], anchors=ANCHORS, resamples=200)
    assert set(result.aggregates["metric"]) == {"score"} and result.settings["anchors"] == {}


def test_a_failed_run_counts_as_the_low_anchor_or_worse(runs):
    runs.loc[(runs["method"] == "good") & (runs["task"] == "A-v0"), "status"] = "failed"
    table = statistics(runs, anchors=ANCHORS, resamples=200).aggregates.set_index(["task", "method", "statistic"])
    worst = min(10.0, runs.loc[(runs["task"] == "A-v0") & (runs["method"] == "bad"), "score"].min())
    assert table.loc[("A-v0", "good", "iqm"), "estimate"] == worst
    runs.loc[runs["task"] == "A-v0", "status"] = "failed"  # a task on which everything failed has a score now
    table = statistics(runs, anchors=ANCHORS, resamples=200).aggregates.set_index(["task", "method", "statistic"])
    assert table.loc[("A-v0", "bad", "iqm"), "estimate"] == 10


@pytest.mark.parametrize("pair", [(1,), (2, 1), (1, 1), (0, np.inf), "ab", 3, None])
def test_anchors_that_are_none_are_refused(runs, pair):
    with pytest.raises(UserError, match=r"anchors\['A-v0'\]=.*: expected the score that counts 0 and a larger one"):
        statistics(runs, anchors={"A-v0": pair})


def test_documented_anchors_are_found_under_a_modules_name_too():
    found = anchors_of(["dynapilco_envs:dynapilco/PendulumSwingUp-v0", "Nowhere-v0"])
    assert list(found.values()) == [DOCUMENTED["dynapilco/PendulumSwingUp-v0"]]
    assert all(pair.low < pair.high for pair in DOCUMENTED.values())


def test_thresholds_are_gymnasiums():
    import gymnasium

    for task, pair in DOCUMENTED.items():
        if pair.source == "Gymnasium's threshold":
            assert gymnasium.spec(task).reward_threshold == pair.high


def test_a_task_without_a_rule_of_success_is_left_out_of_success_rates(make):
    runs, trials = make()
    runs.loc[runs["task"] == "B-v0", "success_rate"] = np.nan
    table = statistics(runs, resamples=200).aggregates
    assert set(table.loc[table["metric"] == "success_rate", "task"]) == {"A-v0"}
    runs["success_rate"] = np.nan
    table = statistics(runs, resamples=200).aggregates
    assert "success_rate" not in set(table["metric"])
    assert len(trials)
