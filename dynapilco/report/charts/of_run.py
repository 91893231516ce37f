"""Charts of one run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dynapilco.report.charts.spec import Axis, Chart, Rule, Series
from dynapilco.report.charts.styles import EXPLORED, FAILED, NEUTRAL, PREDICTED, REAL, SUCCESS
from dynapilco.report.reading.run import Run
from dynapilco.tracking.fans import PIT_BINS
from dynapilco.tracking.sink import TrialRow

TRIAL = Axis("trial", integer=True)


def run_charts(run: Run) -> dict[str, list[Chart]]:
    """Section of the page -> its charts; those without anything to draw are left out."""
    pits = [document["pit"] for document in run.beliefs.values() if document["pit"]]
    found = {
        "learning": [learning_curve(run.rows), success_curve(run.rows)],
        "calibration": [coverage(run.rows), *pit_charts(pits), surprise(run.rows)],
        "cost": [cost(run.rows)],
    }
    return {section: [chart for chart in charts if not chart.empty] for section, charts in found.items()}


def learning_curve(rows: Sequence[TrialRow]) -> Chart:
    """Real and predicted return by trial; what kind of trial it was is in the marker."""
    kinds = (
        ("exploration", [r for r in rows if r.explored], EXPLORED),
        ("real, no success" if any(r.success is not None for r in rows) else "real",
         [r for r in rows if not r.explored and not r.success], FAILED),
        ("real, success", [r for r in rows if not r.explored and r.success], SUCCESS),
    )  # fmt: skip
    marks = [
        Series(name, [r.trial for r in some], [r.ret for r in some], style=style, line=False)
        for name, some, style in kinds
        if some
    ]
    predicted = [r for r in rows if r.predicted_return is not None]
    series = (
        Series("real return", [r.trial for r in rows], [r.ret for r in rows], style=REAL, marker=False),
        Series(
            "predicted by the model",
            [r.trial for r in predicted],
            [r.predicted_return for r in predicted],
            style=PREDICTED,
        ),
        *marks,
    )
    note = "The prediction was made before the trial, by the model of that time, for the policy that then acted."
    series = tuple(s for s in series if s.x)
    return Chart("learning-curve", "Learning curve", "lines", TRIAL, Axis("return"), series, note)


def success_curve(rows: Sequence[TrialRow]) -> Chart:
    """Successful policy trials so far, of the policy trials so far."""
    judged = [r for r in rows if not r.explored and r.success is not None]
    done = np.cumsum([bool(r.success) for r in judged])
    series = (
        Series(
            "policy trials", [r.trial for r in judged], list(range(1, len(judged) + 1)), style=NEUTRAL, marker=False
        ),
        Series("successes", [r.trial for r in judged], [int(n) for n in done], style=SUCCESS),
    )
    note = (
        "By the task's own rule, each trial's real episode counted alone; where both lines rise together, all succeed."
    )
    count = Axis("count so far", low=0, integer=True)
    return Chart("success", "Successes", "lines", TRIAL, count, series if judged else (), note)


def coverage(rows: Sequence[TrialRow]) -> Chart:
    """Coverage of 95 % intervals by trial."""
    some = [r for r in rows if r.coverage_95_one_step is not None or r.coverage_95_horizon is not None]
    trials = [r.trial for r in some]
    series = (
        Series("one step ahead", trials, [r.coverage_95_one_step for r in some], style=0),
        Series("whole imagined trial", trials, [r.coverage_95_horizon for r in some], style=1),
    )
    rules = (Rule(0.95, "95 % would be right"),)
    note = "Share of what really happened inside the model's central 95 % intervals, on data that it had not seen."
    title = "Coverage of 95 % intervals"
    return Chart("coverage", title, "lines", TRIAL, coverage_axis(series), series, note, rules)


def coverage_axis(series: Sequence[Series]) -> Axis:
    """Shares from a round value below all of them to a little above 1, so that marks at 100 % are seen whole."""
    found = [value for s in series for value in (*s.y, *s.low) if value is not None]
    low = math.floor(10 * min([0.8, *found]) - 0.2) / 10
    return Axis("coverage", max(0.0, low), 1.02, percent=True)


def surprise(rows: Sequence[TrialRow]) -> Chart:
    """Negative log likelihood of new transitions by trial."""
    some = [r for r in rows if r.model_nll is not None]
    series = (Series("new transitions", [r.trial for r in some], [r.model_nll for r in some], style=0),)
    note = (
        "Mean negative log predictive density of each trial's transitions before the model saw them; lower is better."
    )
    return Chart("model-nll", "Surprise", "lines", TRIAL, Axis("negative log density [nats]"), series, note)


def pit_charts(pits: Sequence[Mapping[str, Any]], where: str = "") -> list[Chart]:
    """The histogram of PIT values, and the coverage of every central interval that follows from it."""
    counts = pooled(pits)
    if counts is None:
        return []
    total, edges = int(counts.sum()), np.linspace(0, 1, PIT_BINS + 1)
    density = counts / total * PIT_BINS
    note = (
        f"{total:,} predictions of one output one step ahead. Flat: calibrated. A hill: too cautious. "
        "A valley with high ends: too sure. A slope: biased."
    )
    histogram = Chart(
        f"pit{where}", "Where outcomes fell in their predictions (PIT)", "histogram",
        Axis("predictive probability of a smaller value", 0, 1), Axis("density", 0),
        (Series("outcomes", edges.tolist(), density.tolist(), style=0),), note, (Rule(1.0, "calibrated"),),
    )  # fmt: skip
    half = PIT_BINS // 2
    inside = [float(counts[half - k : half + k].sum() / total) for k in range(half + 1)]
    nominal = [2 * k / PIT_BINS for k in range(half + 1)]
    share = Axis("share of outcomes inside", 0, 1, percent=True)
    reliability = Chart(
        f"reliability{where}", "Coverage of every central interval", "lines",
        Axis("central interval of the prediction", 0, 1, percent=True), share,
        (Series("model", nominal, inside, style=0), Series("calibrated", [0, 1], [0, 1], style=NEUTRAL, marker=False)),
        "One step ahead, before the model saw the data. Above the diagonal: too cautious; below: too sure.",
    )  # fmt: skip
    return [histogram, reliability]


def pooled(pits: Iterable[Mapping[str, Any]]) -> np.ndarray | None:
    """Counts of all outputs and trials together, (PIT_BINS,); None where there are none."""
    rows = [row for pit in pits for row in pit["counts"] if len(row) == PIT_BINS]
    counts = np.array(rows, dtype=int).reshape(-1, PIT_BINS).sum(0)
    return counts if counts.sum() else None


def cost(rows: Sequence[TrialRow]) -> Chart:
    """Seconds of each trial by phase."""
    parts = (("fit the model", "seconds_model", 0), ("search a policy", "seconds_policy", 1), ("act", "seconds_env", 3))
    trials = list(range(len(rows)))
    series = tuple(Series(name, trials, [getattr(r, key) or 0.0 for r in rows], style=s) for name, key, s in parts)
    places = Axis("trial", categories=tuple(str(r.trial) for r in rows))
    note = (
        "Wall-clock of the machine that ran it. Searching includes imagining the trial; a planner plans while it acts."
    )
    return Chart("cost", "Where the time went", "bars", Axis("time [s]", low=0), places, series, note)
