"""What the report of a comparison says in words and tables."""

from __future__ import annotations

import math
from typing import Any

from dynapilco.compare.stats import Statistics
from dynapilco.report.charts.of_statistics import ALL_TASKS, NAMES, Frame, Record, metric_of, records
from dynapilco.report.page.html import Html, details, join, table, tag
from dynapilco.report.page.words import num, percent, seconds
from dynapilco.report.reading.comparison import Comparison

HEAD = (
    "method", "seeds", "IQM of the {metric}", "success, last trial", "median trials to first success",
    "coverage, one step", "coverage, whole trial", "time of a run", "peak memory [MB]",
)  # fmt: skip
COSTS = {"wall_seconds": (seconds, math.inf), "peak_memory_mb": (num, math.inf)}
"""How a cost is written, and its upper limit; what else is measured is a share. Intervals end where values must."""
CAPTION = "95 % intervals over seeds in brackets, each beside the figure that it belongs to"


def answer(data: Comparison, stats: Statistics | None) -> Html:
    """The outcome in sentences, and a table for each task."""
    if stats is None:
        words = ["No method can be called better yet: the notes at the end say what is missing."]
        return tag("div", tag("div", [tag("p", word) for word in words], class_="answer"))
    cautions: Any = stats.settings["cautions"]
    first = [s for s in stats.sentences if s.startswith("On ") or s in cautions] or stats.sentences[:1]
    rest = [sentence for sentence in stats.sentences if sentence not in first]
    tasks = [task for task in data.tasks if records(stats.aggregates, task=task)]
    return tag(
        "div",
        tag("div", [tag("p", sentence) for sentence in first], class_="answer long"),
        [task_table(data, stats, task) for task in tasks],
        details("Everything that is shown, and what is not, in words", tag("ul", [tag("li", s) for s in rest])),
    )


def task_table(data: Comparison, stats: Statistics, task: str) -> Html:
    """A row for each method on a task."""
    metric = metric_of(stats, task)
    head = [heading.format(metric=NAMES.get(metric, metric)) for heading in HEAD]
    there = {row["method"] for row in records(stats.aggregates, task=task, metric=metric)}
    lines = [method_cells(stats, task, method, metric) for method in data.methods if method in there]
    kept = [k for k in range(len(head)) if any(line[k] != "–" for line in lines) or k < 3]
    return table([head[k] for k in kept], [[line[k] for k in kept] for line in lines], f"{task}. {CAPTION}.")


def method_cells(stats: Statistics, task: str, method: str, metric: str) -> list[Any]:
    """What one method reached on one task."""
    (score,) = records(stats.aggregates, task=task, method=method, metric=metric, statistic="iqm")
    success = records(stats.success, task=task, method=method)[-1:]
    median = records(stats.trials_to_success, task=task, method=method)
    failed = f", {score['failed']} failed" if score["failed"] else ""
    digits = percent if metric == "success_rate" else num
    return [
        method,
        f"{score['seeds']}{failed}",
        between(digits(score["estimate"]), digits(score["low"]), digits(score["high"]), score["low"]),
        _success(success[0]) if success else "–",
        _median(median[0]) if median else "–",
        *(_measured(stats, task, method, name) for name in ("coverage_95_one_step", "coverage_95_horizon")),
        *(_measured(stats, task, method, name) for name in ("wall_seconds", "peak_memory_mb")),
    ]


def between(estimate: str, low: str, high: str, bound: float | None) -> Html:
    """``0.9``, and below it ``[0.8 to 1]``; without an interval it says so."""
    return with_interval(estimate, "[no interval]" if bound is None else f"[{low.removesuffix(' %')} to {high}]")


def with_interval(estimate: str, interval: str) -> Html:
    """A figure and, in small below it, its interval."""
    return join([estimate, " ", tag("span", interval, class_="ci")])


def pairs_table(stats: Statistics | None) -> Html | None:
    """Every pair: probability of improvement, p values before and after the correction, and the verdict in words."""
    if stats is None or stats.pairwise.empty:
        return None
    lines, counts = [], []
    for row in records(stats.pairwise):
        share = between(
            percent(row["probability_of_improvement"]), percent(row["low"]), percent(row["high"]), row["low"]
        )
        tests = [f"{row[name]:.2g}" if row[name] is not None else "–" for name in ("p", "p_holm")]
        seeds = f"{row['seeds_a']} and {row['seeds_b']}"
        lines.append([row["task"], f"{row['method_a']} over {row['method_b']}", seeds, share, *tests, row["verdict"]])
        counts.append(
            f"{row['family']} tests on {'all tasks together' if row['task'] == ALL_TASKS else 'single tasks'}"
        )
    tests = ", ".join(dict.fromkeys(counts))
    caption = f"95 % intervals in brackets. Permutation tests; p corrected by Holm's method: {tests}."
    head = ["task", "pair", "seeds", "probability of improvement", "p", "p, Holm", "at p = 0.05"]
    return details("Every pair of methods", table(head, lines, caption))


def _success(row: Record) -> Html:
    ends = f"[{100 * row['low']:.0f} to {percent(row['high'])}]"
    return with_interval(f"{row['successes']} of {row['seeds']} (trial {row['trial']})", ends)


def _median(row: Record) -> Html:
    if row["median"] is None:
        return with_interval("not reached", f"{row['succeeded']} of {row['seeds']} ever")
    low, high = (num(row[end]) if row[end] is not None else "beyond" for end in ("low", "high"))
    return with_interval(num(row["median"]), f"[{low} to {high}]")


def _measured(stats: Statistics, task: str, method: str, quantity: str) -> Html | str:
    for frame in (stats.uncertainty, stats.cost):
        whole: Frame = frame[frame["trial"].isna()]
        found = records(whole, task=task, method=method, quantity=quantity, statistic="iqm")
        if found:
            row = found[0]
            write, most = COSTS.get(quantity, (lambda share: percent(share, 1), 1.0))
            low, high = (None if row[end] is None else min(most, max(0.0, row[end])) for end in ("low", "high"))
            return between(write(row["estimate"]), write(low), write(high), low)
    return "–"
