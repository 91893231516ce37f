import json

import numpy as np
import pandas as pd
import pytest

from dynapilco.compare.stats import aggregate_scores, statistics
from dynapilco.core.errors import UserError


def test_the_answer_comes_first_with_seeds_and_interval(tables):
    result = statistics(*tables, resamples=500)
    first = result.sentences[0]
    assert first.startswith(
        "On all tasks, by normalised score: good leads: shown better than bad (Holm-corrected over 1 test)."
    )
    assert (
        "95 % interval" in first and "10 seeds" in first and "in simulation such intervals hold the truth in" in first
    )
    assert result.sentences[1].startswith("On A-v0") and result.sentences[2].startswith("On B-v0")
    assert not any("nan" in sentence.lower().replace("unbalanced", "") for sentence in result.sentences)


def test_no_difference_is_said_in_words(make):
    result = statistics(*make(methods=("good", "same")), resamples=500)
    assert "no difference shown between good and same" in result.sentences[0]
    assert (result.pairwise["verdict"] == "no difference shown").all()


def test_two_that_lead_together(make):
    result = statistics(*make(methods=("bad", "good", "same")), resamples=500)
    assert (
        "good is shown better than bad; same is shown better than bad; among good and same no difference is shown"
        in result.sentences[0]
    )


def test_the_same_tables_and_seed_give_the_same_bits_whatever_the_order_of_rows(tables):
    runs, trials = tables
    first = statistics(runs, trials, resamples=300, seed=3)
    again = statistics(runs, trials, resamples=300, seed=3)
    assert first.to_json() == again.to_json()
    shuffled = pd.concat([runs.iloc[:1], runs.iloc[1:].sample(frac=1, random_state=0)])
    mixed = statistics(shuffled, trials.sample(frac=1, random_state=1), resamples=300, seed=3)
    key = ["task", "metric", "method", "statistic"]
    a, b = (s.aggregates.sort_values(key).reset_index(drop=True) for s in (first, mixed))
    pd.testing.assert_frame_equal(a, b)
    assert statistics(runs, trials, resamples=300, seed=4).to_json() != first.to_json()


def test_what_is_written_reads_back(tables, tmp_path):
    result = statistics(*tables, resamples=200)
    paths = result.write(tmp_path / "out")
    data = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert data["sentences"] == result.sentences
    assert {path.name for path in paths} == {f"{name}.csv" for name in result.tables()} | {
        "statistics.json",
        "statistics.txt",
    }
    for name, table in result.tables().items():
        assert len(data[name]) == len(table) == len(pd.read_csv(tmp_path / "out" / f"{name}.csv"))
    assert data["aggregates"][0]["estimate"] == pytest.approx(result.aggregates["estimate"].iloc[0], abs=1e-14)
    assert (
        any(row["median"] is None for row in data["trials_to_success"])
        or not result.trials_to_success["median"].isna().any()
    )
    with pytest.raises(UserError, match=r"already holds statistics.json"):
        result.write(tmp_path / "out")
    result.write(tmp_path / "out", force=True)


def test_one_seed_has_no_interval_and_says_so(make):
    result = statistics(*make(seeds=1), resamples=200)
    assert "no difference shown; with one seed of a method none can be" in result.sentences[0]
    for table in (
        result.aggregates,
        result.pairwise,
        result.profiles,
        result.curves[result.curves["metric"] == "return"],
    ):
        assert table[["low", "high"]].isna().all().all()
    assert result.pairwise["p"].isna().all()
    assert any("one seed only: an interval cannot be given" in sentence for sentence in result.sentences)


def test_scores_that_are_all_equal_say_that_the_interval_means_nothing(tables):
    runs, trials = tables
    result = statistics(runs.assign(normalised=0.5), trials, resamples=200)
    own = result.aggregates[result.aggregates["metric"] == "normalised"]
    assert (own["low"] == own["high"]).all() and own["note"].str.contains("all equal").all()
    assert (own["simulated_coverage"] == "does not apply: no width").all()
    assert "no difference shown" in result.sentences[0]


def test_one_method_and_runs_alone(make):
    runs, _ = make(methods=("good",), tasks=("A-v0",))
    result = statistics(runs, resamples=200)
    assert "one method, nothing to compare it with" in result.sentences[0]
    assert result.curves.empty and result.success.empty and result.uncertainty.empty and result.pairwise.empty
    assert len(result.cost) and len(result.survival)


def test_without_a_common_scale_tasks_are_not_averaged_but_runs_are_still_compared(make):
    runs, trials = make(normalised=False)
    result = statistics(runs, trials, resamples=200)
    score = result.aggregates[result.aggregates["metric"] == "score"]
    assert "all tasks" not in set(score["task"]) and "optimality_gap" not in set(score["statistic"])
    assert "all tasks" in set(result.pairwise["task"])
    assert any("different scales and were not put together" in sentence for sentence in result.sentences)


def test_success_curves_uncertainty_and_cost(tables):
    result = statistics(*tables, resamples=200)
    rates = result.success.set_index(["task", "method", "trial"])
    assert rates.loc[("A-v0", "good", 1), "rate"] == 0 and rates.loc[("A-v0", "good", 2), "rate"] == 1
    assert 0 not in set(result.success["trial"])  # it explores
    assert rates.loc[("all tasks", "bad", 4), ["successes", "seeds"]].tolist() == [10, 20]
    curve = result.curves.query("task == 'A-v0' and method == 'good' and metric == 'return'")
    assert curve["env_steps"].tolist() == [60, 120, 180, 240, 300]
    assert curve["estimate"].is_monotonic_increasing
    own = result.uncertainty.query("quantity == 'coverage_95_one_step' and task == 'A-v0' and method == 'good'")
    assert set(own["trial"].dropna()) == {1, 2, 3, 4} and own["estimate"].between(0.9, 1).all()
    assert {"wall_seconds", "env_steps", "peak_memory_mb", "seconds_model_per_trial"} == set(result.cost["quantity"])


def test_a_curve_holds_the_newest_finished_trial_and_a_failed_run_falls_to_the_worst(make):
    runs, trials = make(seeds=3, tasks=("A-v0",), methods=("good", "bad"), trials=4)
    late = trials["seed"] == 1
    trials.loc[late, "env_steps"] += 30
    runs.loc[(runs["seed"] == 2) & (runs["method"] == "good"), "status"] = "failed"
    trials = trials[~((trials["seed"] == 2) & (trials["method"] == "good") & (trials["trial"] > 1))]
    result = statistics(runs, trials, resamples=200)
    curve = result.curves.query("method == 'good' and metric == 'success'").set_index("env_steps")
    assert curve.index.tolist() == [
        90,
        120,
        150,
        180,
        210,
        240,
    ]  # from where all have a trial to where the first run ends
    assert curve.loc[180, "estimate"] == pytest.approx(1 / 3)  # the late seed has not finished trial 2
    assert curve.loc[210, "estimate"] == pytest.approx(2 / 3)  # the failed one never succeeds


def test_profiles_are_shares_of_runs_above_a_threshold(tables):
    runs, _ = tables
    result = statistics(runs, resamples=200)
    own = result.profiles.query("task == 'A-v0' and method == 'good' and metric == 'normalised'")
    scores = runs.loc[(runs["task"] == "A-v0") & (runs["method"] == "good"), "normalised"].to_numpy()
    for row in own.itertuples():
        assert row.share_above == pytest.approx(np.mean(scores > row.threshold))
    assert (own["low"] <= own["share_above"]).all() and (own["share_above"] <= own["high"]).all()


def test_the_percentile_option_reaches_every_table(tables):
    result = statistics(*tables, interval="percentile", resamples=300)
    assert set(result.aggregates["interval"]) == {"percentile bootstrap"} == set(result.pairwise["interval"])
    assert result.pairwise["high"].eq(1.0).all() and result.pairwise["low"].eq(1.0).all()  # its known weakness


def test_score_arrays_are_aggregated_alike(tables):
    runs, _ = tables
    scores = {
        m: own.pivot(index="seed", columns="task", values="normalised").to_numpy() for m, own in runs.groupby("method")
    }
    table = aggregate_scores(scores, resamples=300).set_index(["method", "statistic"])
    full = statistics(runs, resamples=300).aggregates.query("task == 'all tasks' and metric == 'normalised'")
    full = full.set_index(["method", "statistic"])
    for key in table.index:
        assert table.loc[key, "estimate"] == pytest.approx(full.loc[key, "estimate"], abs=1e-14)


def test_coverage_that_was_not_simulated_is_not_borrowed():
    from dynapilco.compare.stats.known import coverage_note
    from dynapilco.compare.stats.wording import ONE_SEED, simulated

    few, many = coverage_note("iqm", "calibrated", 2, 1), coverage_note("iqm", "calibrated", 10, 1)
    assert "at the fewest seeds of these it was not simulated" in simulated([few, many])
    assert simulated([many]).endswith("of cases") and simulated([ONE_SEED]) == ""


def test_bounds_are_possible_values_and_unknown_coverage_is_said():
    from dynapilco.compare.stats.measured import possible
    from dynapilco.compare.stats.wording import simulated

    assert possible("coverage_95_one_step", -0.2, 1.3) == (0.0, 1.0)
    assert possible("wall_seconds", -5.0, 15.0) == (0.0, 15.0)
    assert possible("model_nll", -5.0, 15.0) == (-5.0, 15.0)
    assert "was not simulated" in simulated(["not simulated"])
    assert "in 95 % of cases, at the fewest seeds" in simulated(["95 %", "not simulated"])
