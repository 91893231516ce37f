"""Charts of a comparison that describe: calibration and cost, as medians over seeds with their spread.

What is inferred (aggregates, improvement, profiles, curves with intervals) comes from `dynapilco.compare.stats`:
see `dynapilco.report.charts.of_statistics`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dynapilco.report.charts.of_run import TRIAL, coverage_axis, pooled
from dynapilco.report.charts.spec import Axis, Chart, Rule, Series
from dynapilco.report.charts.styles import NEUTRAL
from dynapilco.report.reading.comparison import Comparison
from dynapilco.tracking.fans import PIT_BINS

SPREAD = "Line: median over seeds; band: the middle half of the seeds."
PHASES = (("fit the model", "seconds_model", 0), ("search a policy", "seconds_policy", 1), ("act", "seconds_env", 3))
SCORES = {
    "model_nll": ("model-nll", "surprise of a transition, one step ahead", "negative log density [nats]"),
    "nll_horizon": ("nll-trial", "surprise of a number, whole imagined trials", "negative log density [nats]"),
    "crps_one_step": ("crps-one-step", "error one step ahead", "CRPS [std of the outputs]"),
    "crps_horizon": ("crps-trial", "error over whole imagined trials", "CRPS [std of the columns]"),
    "sharpness_one_step": ("sharpness-one-step", "sharpness one step ahead", "width of 95 % intervals [std]"),
    "sharpness_horizon": ("sharpness-trial", "sharpness over whole trials", "width of 95 % intervals [std]"),
}
"""Column -> name, title and axis of its chart."""
RIGHT = Rule(0.95, "95 % would be right")


def slug(words: str) -> str:
    """Words as part of a name of a file and of an element."""
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-").lower() or "x"


def anchors(tasks: Sequence[str]) -> dict[str, str]:
    """Task -> its part of names, each another one."""
    found: dict[str, str] = {}
    for task in tasks:
        base = slug(task.rpartition("/")[2])
        found[task] = base if base not in found.values() else f"{base}-{len(found) + 1}"
    return found


def short(task: str) -> str:
    """A task without the package that it comes from."""
    return task.rpartition("/")[2]


def calibration_charts(data: Comparison, task: str, place: str) -> list[Chart]:
    """Coverage of one-step and of whole-trial intervals, and surprise, by trial."""
    coverages = [
        ("coverage_95_one_step", "coverage-one-step", f"{short(task)}: coverage one step ahead"),
        ("coverage_95_horizon", "coverage-trial", f"{short(task)}: coverage of whole imagined trials"),
    ]
    charts = []
    for column, name, title in coverages:
        series = by_trial(data, task, column)
        charts.append(
            Chart(f"{name}-{place}", title, "lines", TRIAL, coverage_axis(series), series, seeds_note(series), (RIGHT,))
        )
    for column, (name, title, label) in SCORES.items():
        series = by_trial(data, task, column)
        axis = Axis(label, low=None if "nll" in column else 0)
        charts.append(
            Chart(f"{name}-{place}", f"{short(task)}: {title}", "lines", TRIAL, axis, series, seeds_note(series))
        )
    return charts


def seeds_note(series: Sequence[Series]) -> str:
    """What the bands are; the numbers of seeds are in the names of the series."""
    return f"{SPREAD} Data that the model had not seen." if series else ""


def by_trial(data: Comparison, task: str, column: str) -> tuple[Series, ...]:
    """Median and middle half over seeds at each trial, for methods that have the number at all."""
    found = []
    for style, method in enumerate(data.methods):
        rows = [t for t in data.trials if t["task"] == task and t["method"] == method and finite(t[column])]
        trials = sorted({row["trial"] for row in rows})
        if not trials:
            continue
        groups = [[row[column] for row in rows if row["trial"] == trial] for trial in trials]
        low, middle, high = np.array([np.quantile(group, [0.25, 0.5, 0.75]) for group in groups]).T.tolist()
        seeds = len({row["seed"] for row in rows})
        found.append(Series(f"{method} (n = {seeds})", trials, middle, low, high, style))
    return tuple(found)


def finite(value: float | None) -> bool:
    """Whether there is a number."""
    return value is not None and bool(np.isfinite(value))


def reliability_chart(
    data: Comparison, task: str, place: str, pits: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Chart:
    """Coverage of every central one-step interval by method.

    Parameters
    ----------
    pits : mapping
        Method -> PIT counts of all its runs on the task.
    """
    series, half = [], PIT_BINS // 2
    nominal = [2 * k / PIT_BINS for k in range(half + 1)]
    for style, method in enumerate(data.methods):
        counts = pooled(pits.get(method, []))
        if counts is not None:
            inside = [float(counts[half - k : half + k].sum() / counts.sum()) for k in range(half + 1)]
            series.append(Series(f"{method} ({counts.sum():,} predictions)", nominal, inside, style=style))
    diagonal = [Series("calibrated", [0, 1], [0, 1], style=NEUTRAL, marker=False)] if series else []
    note = "One step ahead, all seeds and trials together. Above the diagonal: too cautious; below: too sure."
    return Chart(
        f"reliability-{place}", f"{short(task)}: coverage of every central interval", "lines",
        Axis("central interval of the prediction", 0, 1, percent=True),
        Axis("share of outcomes inside", 0, 1, percent=True), (*series, *diagonal), note,
    )  # fmt: skip


def cost_charts(data: Comparison, task: str, place: str) -> list[Chart]:
    """Seconds a trial by phase, wall-clock of a run, and memory, by method."""
    methods = [method for method in data.methods if data.runs_of(task, method)]
    if not methods:
        return []
    seeds = {method: len(data.runs_of(task, method)) for method in methods}
    places = Axis("method", categories=tuple(f"{method} (n = {seeds[method]})" for method in methods))
    phases = tuple(
        Series(
            name, list(range(len(methods))), [_seconds(data, task, method, column) for method in methods], style=style
        )
        for name, column, style in PHASES
    )
    title = f"{short(task)}: time of a trial"
    note = (
        "Median over policy trials of all seeds, phase by phase; exploration is left out. On the machine that ran it."
    )
    charts = [Chart(f"cost-{place}", title, "bars", Axis("time [s]", low=0), places, phases, note)]
    rest: list[tuple[str, str, str, Callable[[float], float]]] = [
        ("wall_seconds", "run-time", "time of a run [min]", lambda v: v / 60),
        ("peak_memory_mb", "memory", "peak memory [MB]", float),
    ]
    for column, name, label, scale in rest:
        values = [[scale(r[column]) for r in data.runs_of(task, m) if finite(r[column])] for m in methods]
        series = _middle_and_ends(values, label)
        heading = f"{short(task)}: {label.partition(' [')[0]}"
        charts.append(Chart(f"{name}-{place}", heading, "intervals", Axis(label, low=0), places, series,
                            "Point: median over seeds; bar: lowest to highest."))  # fmt: skip
    return [chart for chart in charts if not chart.empty]


def _seconds(data: Comparison, task: str, method: str, column: str) -> float:
    rows = (t for t in data.trials if t["task"] == task and t["method"] == method and not t["explored"])
    values = [row[column] for row in rows if finite(row[column])]
    return float(np.median(values)) if values else 0.0


def _middle_and_ends(values: Sequence[Sequence[float]], name: str) -> tuple[Series, ...]:
    kept = [(place, v) for place, v in enumerate(values) if v]
    if not kept:
        return ()
    middle = [float(np.median(v)) for _, v in kept]
    return (Series(name, middle, [p for p, _ in kept], [min(v) for _, v in kept], [max(v) for _, v in kept], 0),)
