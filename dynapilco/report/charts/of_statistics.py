"""Charts of what a comparison shows: drawn from the tables of `dynapilco.compare.stats`, computing nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dynapilco.compare.inferred import infer
from dynapilco.compare.stats import Statistics
from dynapilco.core.errors import UserError
from dynapilco.report.charts.of_comparison import finite, short, slug
from dynapilco.report.charts.spec import Axis, Chart, Rule, Series
from dynapilco.report.reading.comparison import LATER_COLUMNS, TRIAL_COLUMNS, Comparison

NAMES = {"normalised": "normalised score", "score": "score", "success_rate": "success rate"}
STATISTICS = {
    "iqm": ("interquartile mean", 0), "mean": ("mean", 1), "median": ("median of the tasks' means", 2),
    "optimality_gap": ("optimality gap (lower is better)", 3),
}  # fmt: skip
OF_ONE_TASK = ("iqm", "mean")
"""The median over tasks of a single one is the mean, and the gap says little more."""
LOG_RATIO = 30
"""From so different budgets on, steps are on a logarithmic axis."""
INTERVALS = "Bars and bands: 95 % intervals over seeds."
CUT = "Where an interval is far wider than the curves, its end lies outside; the table has it."
ALL_TASKS = "all tasks"
Record = dict[str, Any]
Frame = Any
"""A pandas frame; pandas' annotations do not know what a column holds."""


def statistics_of(data: Comparison, notes: list[str]) -> Statistics | None:
    """The statistics of a comparison; None, with the reason in ``notes``, where its tables do not allow any."""
    keys = {(run["task"], run["method"], run["seed"]) for run in data.runs}
    trials = [t for t in data.trials if (t["task"], t["method"], t["seed"]) in keys]
    try:
        stats, said = infer(_runs_frame(data.runs), _trials_frame(trials), data.settings.get("anchors"))
    except UserError as error:  # compare.json, which anybody may edit, holds anchors that are none
        stats, said = None, [f"no statistics: {error}"]
    notes += said
    return stats


def _runs_frame(rows: list[Record]) -> Frame:
    frame = pd.DataFrame(rows, columns=["task", "method", "seed", "status", *NUMBERS_OF_RUNS])
    return frame.astype({"seed": "int64", **dict.fromkeys(NUMBERS_OF_RUNS, "float64")})


NUMBERS_OF_RUNS = (
    "score", "success_rate", "first_success_trial", "trials", "env_steps", "wall_seconds", "peak_memory_mb",
)  # fmt: skip


def _trials_frame(rows: list[Record]) -> Frame:
    frame = pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, *LATER_COLUMNS])
    kinds = {"task": "object", "method": "object", "explored": "bool", "success": "boolean"}
    kinds |= dict.fromkeys(("seed", "trial", "env_steps"), "int64")
    return frame.astype({name: kinds.get(name, "float64") for name in frame})


def records(table: Frame, **wanted: Any) -> list[Record]:
    """Rows with these values, None for what is not finite."""
    for name, value in wanted.items():
        table = table[table[name] == value]
    return [{k: None if isinstance(v, float) and not finite(v) else v for k, v in row.items()}
            for row in table.to_dict("records")]  # fmt: skip


def groups(table: Frame) -> list[str]:
    """Tasks of a table, and all of them together where it has that."""
    return [str(task) for task in dict.fromkeys(table["task"])]


def score_charts(stats: Statistics | None, data: Comparison, places: Mapping[str, str]) -> list[Chart]:
    """Aggregates, pairs and profiles."""
    if stats is None:
        return []
    found = [
        aggregate_chart(stats, data, group, each, places)
        for each in dict.fromkeys(stats.aggregates["metric"])
        for group in groups(stats.aggregates[stats.aggregates["metric"] == each])
    ]
    found += [improvement_chart(stats, group, places) for group in groups(stats.pairwise)]
    told = {group: metric_of(stats, group) for group in groups(stats.profiles)}
    shown = [g for g, metric in told.items() if records(stats.profiles, task=g, metric=metric)]
    found += [profile_chart(stats, data, group, told[group], places) for group in shown]
    return [chart for chart in found if not chart.empty]


def metric_of(stats: Statistics, group: str) -> str:
    """By which metric a task, or all of them together, is told."""
    of_tasks: Any = stats.settings["metric_of_tasks"]
    return str(of_tasks.get(group, stats.settings["metric"]))


def called(group: str) -> str:
    """A task, or all of them, at the beginning of a title."""
    return "All tasks" if group == ALL_TASKS else short(group)


def _name(kind: str, group: str, places: Mapping[str, str]) -> str:
    return f"{kind}-{places.get(group, slug(group))}"


def aggregate_chart(stats: Statistics, data: Comparison, group: str, metric: str, places: Mapping[str, str]) -> Chart:
    """Interquartile mean and mean of a metric by method."""
    rows = records(stats.aggregates, task=group, metric=metric)
    count = {row["method"]: row["runs"] for row in rows}
    methods = [method for method in data.methods if method in count]
    series = []
    for statistic in STATISTICS if group == ALL_TASKS else OF_ONE_TASK:
        name, style = STATISTICS[statistic]
        own = [row for row in rows if row["statistic"] == statistic]
        at = [methods.index(row["method"]) for row in own]
        x, low, high = ([row[key] for row in own] for key in ("estimate", "low", "high"))
        series.append(Series(name, x, at, low, high, style, line=False))
    places_of = Axis("method", categories=tuple(f"{method} (n = {count[method]})" for method in methods))
    said = sorted({row["simulated_coverage"] for row in rows if row["statistic"] == "iqm"})
    note = f"{INTERVALS} How often intervals like the IQM's held the truth in simulation: {'; '.join(said)}."
    title = f"{called(group)}: {NAMES.get(metric, metric)} of the delivered policy"
    axis = Axis(NAMES.get(metric, metric), percent=metric == "success_rate")
    return Chart(
        _name(metric.replace("_", "-"), group, places), title, "intervals", axis, places_of, tuple(series), note
    )


def improvement_chart(stats: Statistics, group: str, places: Mapping[str, str]) -> Chart:
    """Probability of improvement of every pair, the likelier winner first."""
    found = []
    for row in records(stats.pairwise, task=group):
        estimate, low, high = row["probability_of_improvement"], row["low"], row["high"]
        a, b = row["method_a"], row["method_b"]
        if estimate < 0.5:
            a, b, estimate = b, a, 1 - estimate
            low, high = (None, None) if low is None else (1 - high, 1 - low)
        mark = "" if row["verdict"] == "no difference shown" else " *"
        found.append((f"{a} over {b}{mark}", estimate, low, high))
    found.sort(key=lambda pair: -pair[1])
    names, estimates, lows, highs = zip(*found, strict=True) if found else ((), (), (), ())
    series = Series("probability", estimates, list(range(len(names))), lows, highs, 0, line=False)
    metric = NAMES.get(metric_of(stats, group), metric_of(stats, group))
    tests = next((row["family"] for row in records(stats.pairwise, task=group)), 0)
    note = (
        f"How often a run of the first method has the higher {metric}. {INTERVALS} Star: a difference is shown "
        f"(permutation test, 5 %, Holm-corrected over {tests} tests); without it, no difference is shown."
    )
    axis = Axis("probability of improvement", 0, 1, percent=True)
    title = f"{called(group)}: which method beats which"
    pairs = Axis("pair", categories=tuple(names))
    return Chart(
        _name("improvement", group, places), title, "intervals", axis, pairs, (series,), note, (Rule(0.5, "even"),)
    )


def _lines(rows: list[Record], data: Comparison, keys: tuple[str, str], step: bool, marker: bool) -> tuple[Series, ...]:
    """A series for each method, with its band and its number of seeds."""
    at, value = keys
    found = []
    for style, method in enumerate(data.methods):
        own = [row for row in rows if row["method"] == method]
        if own:
            x, y, low, high = ([row[key] for row in own] for key in (at, value, "low", "high"))
            name = f"{method} (n = {max(row['seeds'] for row in own)})"
            found.append(Series(name, x, y, low, high, style, step=step, marker=marker))
    return tuple(found)


def profile_chart(stats: Statistics, data: Comparison, group: str, metric: str, places: Mapping[str, str]) -> Chart:
    """Share of runs above each score."""
    rows = records(stats.profiles, task=group, metric=metric)
    series = _lines(rows, data, ("threshold", "share_above"), step=False, marker=True)
    title, share = f"{called(group)}: how scores are spread", Axis("share of runs above it", 0, 1.02, percent=True)
    note = f"{INTERVALS} A curve that lies higher everywhere belongs to the better method."
    return Chart(_name("profile", group, places), title, "lines", Axis(NAMES.get(metric, metric)), share, series, note)


def learning_charts(stats: Statistics | None, data: Comparison, places: Mapping[str, str]) -> list[Chart]:
    """Returns and successes against experience, successes by trial, trials to the first success."""
    found = []
    for task in data.tasks if stats is not None else ():
        assert stats is not None
        place, name = places[task], short(task)
        steps = Axis("environment steps", log=_log(stats, task))
        rate = Axis("share of seeds", 0, 1.02, percent=True)
        for metric, title, axis in (
            ("return", f"{name}: return by experience", Axis("return of the newest trial (IQM)")),
            ("success", f"{name}: success by experience", rate),
        ):
            rows = records(stats.curves, task=task, metric=metric)
            series = _lines(rows, data, ("env_steps", "estimate"), step=True, marker=True)
            found.append(Chart(f"{metric}-by-steps-{place}", title, "lines", steps, axis, series, f"{INTERVALS} {CUT}"))
        last = _last_common_trial(data, task)
        rows = [row for row in records(stats.success, task=task) if row["trial"] <= last]
        series = _lines(rows, data, ("trial", "rate"), step=False, marker=True)
        beyond = f" Trials up to {last}, which every method has."
        note = f"Each policy trial's real episode counted alone. Bands: Wilson's 95 % intervals.{beyond}"
        trial = Axis("trial", integer=True)
        found.append(Chart(f"success-{place}", f"{name}: success by trial", "lines", trial, rate, series, note))
        rows = [row for row in _survival(stats, task) if row["trial"] <= last]
        series = _lines(rows, data, ("trial", "not_yet"), step=True, marker=True)
        note = (
            "Kaplan-Meier: a seed that never succeeded counts as not yet, it is not dropped. Bands: 95 % intervals."
            f"{beyond}"
        )
        waiting = Axis("seeds without success so far", 0, 1.02, percent=True)
        found.append(
            Chart(f"survival-{place}", f"{name}: until the first success", "lines", trial, waiting, series, note)
        )
    return [chart for chart in found if not chart.empty]


def _log(stats: Statistics, task: str) -> bool:
    steps = stats.curves.loc[stats.curves["task"] == task, "env_steps"].astype(float)
    return bool(len(steps) and steps.max() > LOG_RATIO * steps.min())


def _last_common_trial(data: Comparison, task: str) -> int:
    """The last trial that every method with trials on a task has."""
    last: dict[str, int] = {}
    for row in data.trials:
        if row["task"] == task:
            last[row["method"]] = max(last.get(row["method"], 0), row["trial"])
    return min(last.values(), default=0)


def _survival(stats: Statistics, task: str) -> list[Record]:
    """The curves with their beginning: before the first trial nobody has succeeded."""
    rows = records(stats.survival, task=task)
    methods = {row["method"]: row["seeds"] for row in rows}
    begin = [{"method": method, "trial": 0, "not_yet": 1.0, "low": 1.0, "high": 1.0, "seeds": seeds}
             for method, seeds in methods.items()]  # fmt: skip
    return [*begin, *(row for row in rows if row["trial"] > 0)]
