"""Tables over final scores: aggregates, pairs, profiles."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

from dynapilco.compare.stats.aggregate import AGGREGATES, Strata
from dynapilco.compare.stats.bootstrap import percentile_interval
from dynapilco.compare.stats.frame import Table
from dynapilco.compare.stats.improvement import holm, improvement_interval, permutation_test
from dynapilco.compare.stats.intervals import IntervalKind, aggregate_interval, interval_name
from dynapilco.compare.stats.known import coverage_note
from dynapilco.compare.stats.rates import effective_count, wilson
from dynapilco.compare.stats.tables_of_runs import COMMON_SCALE, Runs

Rng = Callable[..., np.random.Generator]
THRESHOLDS = 101
"""Points of a performance profile."""
PROFILE_RESAMPLES = 2_000
NO_WIDTH = "does not apply: no width"


def aggregate_rows(
    strata: Strata, rng: np.random.Generator, kind: IntervalKind, resamples: int, *, common_scale: bool
) -> list[dict[str, object]]:
    """One row for each aggregate; the optimality gap only on a scale whose best is 1."""
    rows, seeds = [], min(len(stratum) for stratum in strata)
    for statistic in AGGREGATES:
        if statistic == "optimality_gap" and not common_scale:
            continue
        estimate, low, high = map(float, aggregate_interval(strata, statistic, rng, kind, resamples))
        row = {"statistic": statistic, "estimate": estimate, "low": low, "high": high, "seeds": seeds}
        row |= {"tasks": len(strata), "runs": sum(len(stratum) for stratum in strata)}
        row["interval"] = interval_name(statistic, kind) if seeds > 1 else "none"
        row["simulated_coverage"] = NO_WIDTH if low == high else coverage_note(statistic, kind, seeds, len(strata))
        rows.append(row | {"note": _note(seeds, low, high)})
    return rows


def _note(seeds: int, low: float, high: float) -> str:
    if seeds < 2:
        return "one seed only: an interval cannot be given"
    if low == high:
        return "the scores that count are all equal: the interval has no width, which says little of further seeds"
    return ""


def aggregates(runs: Runs, rng: Rng, kind: IntervalKind, resamples: int) -> Table:
    """Aggregates of every metric, method and task, and over all tasks where the metric has one scale."""
    rows = []
    for metric in runs.metrics:
        for group, tasks in runs.groups(metric).items():
            for method in runs.methods:
                head = {"task": group, "metric": metric, "method": method}
                failed = sum(int((runs.of(task, method)["status"] == "failed").sum()) for task in tasks)
                stream = rng("aggregate", metric, group, method)
                body = aggregate_rows(
                    runs.strata(metric, method, tasks), stream, kind, resamples, common_scale=metric in COMMON_SCALE
                )
                rows += [head | row | {"failed": failed} for row in body]
    table = pd.DataFrame(rows)
    shares = table["metric"] == "success_rate"
    table.loc[shares, ["low", "high"]] = table.loc[shares, ["low", "high"]].clip(0.0, 1.0)
    return table


def pairwise(runs: Runs, rng: Rng, kind: IntervalKind, resamples: int) -> Table:
    """Every pair of methods by the deciding metric: probability of improvement, permutation test, Holm's correction.

    Pairs over all tasks are one family of tests, pairs on single tasks another. No scale is needed to put tasks
    together here: runs are compared within tasks.
    """
    metric, rows = runs.metrics[0], []
    groups = {task: [task] for task in runs.tasks}
    if len(runs.tasks) > 1:
        groups = {"all tasks": runs.tasks, **groups}
    for group, tasks in groups.items():
        for a, b in itertools.combinations(runs.methods, 2):
            x, y, stream = runs.strata(metric, a, tasks), runs.strata(metric, b, tasks), rng("pair", group, a, b)
            estimate, low, high = map(float, improvement_interval(x, y, stream, kind, resamples))
            fewest = min(len(stratum) for stratum in (*x, *y))
            row = {
                "task": group,
                "metric": metric,
                "method_a": a,
                "method_b": b,
                "probability_of_improvement": estimate,
            }
            row |= {"low": low, "high": high, "seeds_a": min(map(len, x)), "seeds_b": min(map(len, y))}
            row |= {"interval": interval_name("probability_of_improvement", kind) if fewest > 1 else "none"}
            row |= {"simulated_coverage": coverage_note("probability_of_improvement", kind, fewest, len(tasks))}
            rows.append(row | {"p": permutation_test(x, y, stream) if fewest > 1 else np.nan})
    columns = ["task", "metric", "method_a", "method_b", "probability_of_improvement", "low", "high", "seeds_a"]
    columns += ["seeds_b", "interval", "simulated_coverage", "p"]
    return correct(pd.DataFrame(rows, columns=columns))


def correct(table: Table) -> Table:
    """Append ``p_holm`` and the verdict; all tasks together and single tasks are two families."""
    table["p_holm"] = np.nan
    together = table["task"] == "all tasks"
    for family in (together, ~together):
        table.loc[family, "p_holm"] = holm(table.loc[family, "p"].to_numpy())
    table["family"] = [int(together.sum()) if whole else int((~together).sum()) for whole in together]
    table["verdict"] = [_verdict(row) for row in table.to_dict("records")]
    return table


def _verdict(row: dict) -> str:
    if not row["p_holm"] < 0.05:  # NaN, too
        return "no difference shown"
    return f"{row['method_a'] if row['probability_of_improvement'] > 0.5 else row['method_b']} is better"


def profiles(runs: Runs, rng: Rng, kind: IntervalKind) -> Table:
    """Score distributions: the share of runs above each threshold, with pointwise 95 % bands."""
    rows = []
    for metric in runs.metrics:
        for group, tasks in runs.groups(metric).items():
            scores = np.concatenate([s for method in runs.methods for s in runs.strata(metric, method, tasks)])
            ends = (min(0.0, scores.min()), max(1.0, scores.max())) if metric in COMMON_SCALE else _span(scores)
            thresholds = np.linspace(*ends, THRESHOLDS)
            for method in runs.methods:
                strata = runs.strata(metric, method, tasks)
                share, low, high = profile(strata, thresholds, rng("profile", metric, group, method), kind)
                part = pd.DataFrame({"threshold": thresholds, "share_above": share, "low": low, "high": high})
                head = {"task": group, "metric": metric, "method": method}
                rows.append(part.assign(**head, seeds=min(map(len, strata)))[[*head, *part.columns, "seeds"]])
    return pd.concat(rows, ignore_index=True)


def profile(
    strata: Strata, thresholds: np.ndarray, rng: np.random.Generator, kind: IntervalKind
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of runs whose score exceeds each threshold, mean over tasks, and its band; three arrays of thresholds."""

    def above(parts: Strata) -> np.ndarray:
        return np.mean([(part[..., None] > thresholds).mean(axis=-2) for part in parts], axis=0)

    share = above(strata)
    if min(map(len, strata)) < 2:
        return share, np.full_like(share, np.nan), np.full_like(share, np.nan)
    if kind == "percentile":
        return share, *percentile_interval(strata, above, rng, PROFILE_RESAMPLES)
    return share, *wilson(share, effective_count([len(stratum) for stratum in strata]))


def _span(scores: np.ndarray) -> tuple[float, float]:
    low, high = float(scores.min()), float(scores.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
