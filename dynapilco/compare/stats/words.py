"""What the tables say, in sentences: the answer first, always with the number of seeds and an interval."""

from __future__ import annotations

import numpy as np

from dynapilco.compare.stats import words_by_trial
from dynapilco.compare.stats.frame import Table
from dynapilco.compare.stats.tables_of_runs import Runs
from dynapilco.compare.stats.wording import NAMES, bounds, listed, number, p_value, simulated

TOLD_PAIRS = 10
SPELT_OUT = 5
"""Up to so many methods, the first sentence says who is shown better than whom."""


def sentences(
    runs: Runs,
    aggregates: Table,
    pairs: Table,
    success: Table,
    medians: Table,
    survival_tests: Table,
    measured: Table,
) -> list[str]:
    """The answer over all tasks, then each task, success, trials to it, uncertainty, cost, and what to beware of."""
    groups = list(dict.fromkeys(pairs["task"])) or list(runs.groups(runs.metrics[0]))
    said = [ordering(group, runs, aggregates, pairs) for group in groups] + runs.cautions
    said += [_shown(row) for row in _told(pairs[pairs["task"] == groups[0]], runs.methods)]
    said += words_by_trial.last_trial(success)
    said += words_by_trial.medians(medians, survival_tests)
    for quantity in ("coverage_95_one_step", "coverage_95_horizon", "wall_seconds"):
        said += words_by_trial.measured(measured, quantity)
    return said + runs.notes + _warnings(aggregates)


def _told(pairs: Table, methods: list[str]) -> list[dict]:
    """All pairs, or of more than ten only those of the method that beats the others most often."""
    rows = pairs.to_dict("records")
    if len(rows) <= TOLD_PAIRS:
        return rows
    wins = dict.fromkeys(methods, 0.0)
    for row in rows:
        wins[row["method_a"]] += row["probability_of_improvement"]
        wins[row["method_b"]] += 1 - row["probability_of_improvement"]
    best = max(wins, key=wins.__getitem__)
    return [row for row in rows if best in (row["method_a"], row["method_b"])]


def ordering(group: str, runs: Runs, aggregates: Table, pairs: Table) -> str:
    """Who leads on a task (or on all): only what the corrected tests show is called an order."""
    metric, where = runs.metric_of(group), f"On {group}"
    figures = _figures(group, runs, aggregates)
    own = pairs[pairs["task"] == group]
    if len(runs.methods) == 1:
        return f"{where}: one method, nothing to compare it with: {figures}."
    if own["p_holm"].isna().all():
        return f"{where}: no difference shown; with one seed of a method none can be: {figures}."
    better = {method: set() for method in runs.methods}
    for row in own.to_dict("records"):
        if row["verdict"] != "no difference shown":
            winner = row["verdict"].removesuffix(" is better")
            better[winner].add(row["method_b"] if winner == row["method_a"] else row["method_a"])
    beaten = set().union(*better.values())
    ahead = [method for method in runs.methods if method not in beaten]
    if not beaten:
        head = f"no difference shown between {listed(runs.methods)}"
    elif len(ahead) == 1 and better[ahead[0]] == set(runs.methods) - {ahead[0]}:
        rest = listed([method for method in runs.methods if method != ahead[0]])
        head = f"{ahead[0]} leads: shown better than {'each of ' if len(beaten) > 1 else ''}{rest}"
    elif len(runs.methods) <= SPELT_OUT:
        shown = [(method, [m for m in runs.methods if m in better[method]]) for method in runs.methods]
        head = "; ".join(f"{method} is shown better than {listed(worse)}" for method, worse in shown if worse)
        head += f"; among {listed(ahead)} no difference is shown" if len(ahead) > 1 else ""
    else:
        head = f"no method is shown better than {listed(ahead)}"
        head += ", among which no difference is shown" if len(ahead) > 1 else ""
        rest = listed([method for method in runs.methods if method in beaten])
        head += f"; for each of {rest} some method is shown better (table pairwise)"
    count = int(own["family"].iloc[0])
    tests = "1 test" if count == 1 else f"{count} tests"
    return f"{where}, by {NAMES[metric]}: {head} (Holm-corrected over {tests}). {figures}."


def _figures(group: str, runs: Runs, aggregates: Table) -> str:
    """``IQM: ensemble 0.91 (95 % interval 0.85 to 0.95, 10 seeds), ...``, best first."""
    metric = runs.metric_of(group)
    rows = aggregates[(aggregates["metric"] == metric) & (aggregates["statistic"] == "iqm")]
    if not (rows["task"] == group).any():
        return "No common scale over the tasks: see each task"
    rows = rows[rows["task"] == group].sort_values("estimate", ascending=False, kind="stable")
    words = [
        f"{row['method']} {number(row['estimate'])} ({bounds(row, first=i == 0)})"
        for i, row in enumerate(rows.to_dict("records"))
    ]
    text = f"IQM of the {NAMES[metric]}: {', '.join(words)}"
    notes = sorted(set(rows.loc[rows["low"] < rows["high"], "simulated_coverage"]))
    return text + (simulated(notes) if notes else "")


def _shown(row: dict) -> str:
    seeds = f"{row['seeds_a']} and {row['seeds_b']} seeds"
    a, b = row["method_a"], row["method_b"]
    if row["probability_of_improvement"] < 0.5:
        a, b = b, a
        row = row | {
            "probability_of_improvement": 1 - row["probability_of_improvement"],
            "low": 1 - row["high"],
            "high": 1 - row["low"],
            "seeds_a": row["seeds_b"],
            "seeds_b": row["seeds_a"],
        }
        seeds = f"{row['seeds_a']} and {row['seeds_b']} seeds"
    share = f"a run of {a} beats one of {b} with probability {number(row['probability_of_improvement'])}"
    if np.isnan(row["p_holm"]):
        why = "one seed: an interval cannot be given"
        return f"{a} and {b} on {row['task']}: no difference shown; {share} ({seeds}; {why})."
    interval = f"95 % interval {number(row['low'])} to {number(row['high'])}, {seeds}"
    verdict = "no difference shown" if row["verdict"] == "no difference shown" else f"{a} is better"
    return (
        f"{a} and {b} on {row['task']}: {verdict}; {share} ({interval}; Holm-corrected p = {p_value(row['p_holm'])})."
    )


def _warnings(aggregates: Table) -> list[str]:
    """What keeps an interval of the deciding aggregate from being one."""
    rows = aggregates[(aggregates["statistic"] == "iqm") & (aggregates["note"] != "")]
    return [
        f"{row['method']} on {row['task']}, {NAMES[row['metric']]}: {row['note']}." for row in rows.to_dict("records")
    ]
