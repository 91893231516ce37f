import numpy as np
import pandas as pd
import pytest

from dynapilco.compare.stats import aggregate_scores, statistics
from dynapilco.core.errors import UserError


def refused(match, runs, trials=None, **options):
    with pytest.raises(UserError, match=match):
        statistics(runs, trials, resamples=200, **options)


def test_empty_tables_missing_columns_and_wrong_types(tables):
    runs, _ = tables
    refused("runs: the table is empty", runs.iloc[:0])
    refused("runs: missing column.* seed", runs.drop(columns="seed"))
    refused("runs: column 'status' is missing", runs.drop(columns="status"))
    refused("no column to compare", runs.drop(columns=["score", "normalised", "success_rate"]))
    refused("expected a pandas.DataFrame, got list", [1, 2])
    refused("empty cells in task, method, seed, first in row 3", runs.assign(seed=runs["seed"].mask(runs.index == 3)))


def test_duplicates_are_named(tables):
    runs, trials = tables
    refused("runs: more than one row for A-v0 / good / seed 0;", pd.concat([runs, runs.iloc[:1]]))
    refused(
        "trials: more than one row for A-v0 / good / seed 0 / trial 1;", runs, pd.concat([trials, trials.iloc[1:2]])
    )


def test_missing_runs_are_named_unless_unbalanced_data_are_asked_for(tables):
    runs, _ = tables
    fewer = runs[~((runs["method"] == "bad") & (runs["seed"] > 7))]
    refused("4 missing .* A-v0 / bad / seed 8, A-v0 / bad / seed 9, B-v0", fewer)
    result = statistics(fewer, resamples=200, unbalanced=True)
    assert any("Unbalanced: 4 runs" in sentence for sentence in result.sentences)
    pair = result.pairwise.iloc[0]
    assert (pair["seeds_a"], pair["seeds_b"]) == (10, 8)


def test_methods_on_different_tasks_are_refused_even_unbalanced(tables):
    runs, _ = tables
    other = runs[~((runs["method"] == "bad") & (runs["task"] == "B-v0"))]
    refused("bad has no run on task 'B-v0'", other, unbalanced=True)


def test_different_budgets_are_refused_or_said(tables):
    runs, _ = tables
    runs["env_steps"] = runs["env_steps"].where(runs["method"] == "good", 30_000)
    refused(r"budgets differ on task 'A-v0' \(env_steps: good 300, bad 30000\)", runs)
    said = statistics(runs, resamples=200, different_budgets=True).sentences
    assert any(sentence.startswith("Budgets differ on A-v0") for sentence in said)


def test_scores_that_are_no_numbers_and_unfinished_runs(tables):
    runs, trials = tables
    refused(
        "normalised is not a finite number for A-v0 / good / seed 2",
        runs.assign(normalised=runs["normalised"].mask(runs.index == 2)),
    )
    refused(
        "success_rate must lie in .0, 1.; .* seed 1",
        runs.assign(success_rate=runs["success_rate"].mask(runs.index == 1, 18.0)),
    )
    refused(
        "status must be 'done' or 'failed', got .'running'.",
        runs.assign(status=runs["status"].mask(runs.index == 2, "running")),
    )
    refused(
        "return is not a finite number .* trial 3",
        runs,
        trials.assign(**{"return": trials["return"].mask(trials.index == 3)}),
    )
    refused(
        "success is empty for A-v0 / good / seed 0 / trial 2",
        runs,
        trials.assign(success=trials["success"].astype(object).mask(trials.index == 2)),
    )


def test_trials_must_belong_to_runs_and_be_complete(tables):
    runs, trials = tables
    refused(
        "trials: no row for A-v0 / good / seed 5", runs, trials[~((trials["seed"] == 5) & (trials["method"] == "good"))]
    )
    refused(
        "rows of runs that the table of runs does not have: C-v0",
        runs,
        trials.assign(task=trials["task"].mask(trials.index == 0, "C-v0")),
    )


def test_options(tables):
    refused("unknown interval 'bca'", tables[0], interval="bca")
    with pytest.raises(UserError, match="at least 100"):
        statistics(tables[0], resamples=5)
    with pytest.raises(UserError, match="seed: expected at least 0"):
        statistics(tables[0], seed=-1)


def test_failed_runs_count_as_the_worst_score(tables):
    runs, _ = tables
    failed = (runs["method"] == "good") & (runs["seed"] < 2) & (runs["task"] == "A-v0")
    runs.loc[failed, ["score", "normalised", "success_rate"]] = np.nan
    runs["status"] = np.where(failed, "failed", "done")
    result = statistics(runs, resamples=200)
    row = result.aggregates.query(
        "task == 'A-v0' and method == 'good' and metric == 'normalised' and statistic == 'mean'"
    )
    kept = runs.loc[(runs["method"] == "good") & (runs["task"] == "A-v0"), "normalised"].fillna(0.0)
    assert row["estimate"].item() == pytest.approx(kept.mean()) and row["failed"].item() == 2
    row = result.aggregates.query("task == 'A-v0' and method == 'good' and metric == 'score' and statistic == 'mean'")
    worst = runs.loc[(runs["task"] == "A-v0") & ~failed, "score"].min()
    kept = runs.loc[(runs["method"] == "good") & (runs["task"] == "A-v0"), "score"].fillna(worst)
    assert row["estimate"].item() == pytest.approx(kept.mean())
    assert any("2 of 40 runs failed; they count as the worst score" in sentence for sentence in result.sentences)


def test_a_task_on_which_everything_failed_has_no_raw_score(tables):
    runs, _ = tables
    runs["status"] = np.where(runs["task"] == "B-v0", "failed", "done")
    refused("every run on task 'B-v0' failed", runs.drop(columns="normalised"))


def test_score_arrays():
    with pytest.raises(UserError, match=r"scores\['x'\]: expected an array \(seeds, tasks\), got shape \(3,\)"):
        aggregate_scores({"x": np.zeros(3)})
    with pytest.raises(UserError, match=r"scores\['x'\]: not finite at \(seed, task\) \(1, 0\)"):
        aggregate_scores({"x": np.array([[0.0], [np.nan]])})
    with pytest.raises(UserError, match="numbers of tasks differ"):
        aggregate_scores({"x": np.zeros((3, 2)), "y": np.zeros((3, 1))})
    with pytest.raises(UserError, match="no method"):
        aggregate_scores({})
