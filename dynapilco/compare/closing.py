"""What a comparison ends with: a table for each task and sentences; every figure has its seeds and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from scipy.stats import binom

from dynapilco.compare.stats import Statistics
from dynapilco.core.intervals import mean_interval, wilson_interval
from dynapilco.tracking.summary import SOLVED_RATE

OUTCOME = ("method", "seeds done", "score (IQM)", "seeds solved", "first success")
MODEL_AND_COST = ("method", "1-step coverage", "trial coverage", "s a trial", "s a run")
NOTE = (
    "Second lines: 95 % intervals over seeds (score: bootstrap, below 4 seeds Student's t; solved: Wilson; coverage: "
    "Student's t; for the median of the first success from order statistics, or the range, marked *, where seeds are "
    "too few). Score: interquartile mean (IQM) over seeds of the mean return of fresh episodes with the delivered "
    "policy; a seed that failed has the worst score of its task. Solved: at least 90 % of the episodes succeed; a "
    "seed that failed is not solved. First success: median trial over seeds. Coverage: of 95 % intervals, on trials "
    "not seen before. Seconds: median, range."
)
Frame = Any
"""A pandas frame; pandas' annotations do not know what a column holds."""


def closing_tables(runs: Frame, trials: Frame, stats: Statistics | None) -> list[Table]:
    """Two tables for each task, methods in their order: what came out, and of the model and its cost.

    Parameters
    ----------
    runs, trials : DataFrame
        From :func:`dynapilco.compare.load`.
    stats : Statistics or None
        Of the same tables; without them there is no score.
    """
    tables = []
    for task, found in runs.groupby("task", sort=False):
        rows = {method: (of, _of(trials, task, method)) for method, of in found.groupby("method", sort=False)}
        outcomes = {m: outcome_cells(of, score_cell(stats, task, m)) for m, (of, _) in rows.items()}
        tables.append(_table(f"{task}: outcome", OUTCOME, outcomes))
        costs = {method: cost_cells(*both) for method, both in rows.items()}
        tables.append(_table(f"{task}: model and cost", MODEL_AND_COST, costs))
    return tables


def _of(trials: Frame, task: Any, method: Any) -> Frame:
    return trials[(trials["task"] == task) & (trials["method"] == method)]


def _table(title: str, headings: Sequence[str], rows: Mapping[Any, Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)  # fits in 80 columns
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method, cells in rows.items():
        table.add_row(str(method), *cells)
    return table


def outcome_cells(runs: Frame, score: str) -> list[str]:
    """The cells of one method on one task, after its name."""
    done = runs[runs["status"] == "done"]
    return [_seeds(runs), score, _solved(runs, done), _first_success(done)]


def score_cell(stats: Statistics | None, task: Any, method: Any) -> str:
    """Interquartile mean of the score and its interval; ``-`` where nothing could be said."""
    if stats is None:
        return "-"
    table: Frame = stats.aggregates
    row = table[(table["task"] == task) & (table["method"] == method)]
    row = row[(row["metric"] == "score") & (row["statistic"] == "iqm")]
    if row.empty:
        return "-"
    estimate, low, high = (float(row.iloc[0][name]) for name in ("estimate", "low", "high"))
    if math.isnan(low):
        return f"{estimate:.4g}\none seed"
    return f"{estimate:.4g}\n{low:.4g} to {high:.4g}" + (" (equal)" if low == high else "")


def cost_cells(runs: Frame, trials: Frame) -> list[str]:
    """The cells of one method on one task, after its name."""
    done = runs[runs["status"] == "done"]
    acted = trials[trials["seed"].isin(done["seed"]) & ~trials["explored"]]
    spent = acted["seconds_model"] + acted["seconds_policy"] + acted["seconds_env"]
    return [
        _mean(_by_seed(acted, "coverage_95_one_step"), ".0%", (0.0, 1.0)),
        _mean(_by_seed(acted, "coverage_95_horizon"), ".0%", (0.0, 1.0)),
        _range(spent.groupby(acted["seed"]).mean().tolist()),
        _range(done["wall_seconds"].tolist()),
    ]


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{np.median(values):.3g}\n{min(values):.3g} to {max(values):.3g}"


def _seeds(runs: Frame) -> str:
    counts = runs["status"].value_counts()
    rest = [f"{counts[name]} {name}" for name in ("failed", "missing") if name in counts]
    return "\n".join([f"{counts.get('done', 0)} of {len(runs)}", *rest])


def _by_seed(trials: Frame, column: str) -> list[float]:
    """A number for each seed: the mean over its trials, where there are any."""
    return trials.groupby("seed")[column].mean().dropna().tolist()


def _mean(values: Sequence[float], form: str, bounds: tuple[float, float] = (-math.inf, math.inf)) -> str:
    if not values:
        return "-"
    mean, low, high = mean_interval(values)
    if math.isnan(low):
        return f"{mean:{form}}\none seed"
    low, high = max(low, bounds[0]), min(high, bounds[1])
    return f"{mean:{form}}\n{low:{form}} to {high:{form}}"


def _solved(runs: Frame, done: Frame) -> str:
    """Of the seeds that came to an end, a failed one being unsolved; '-' without a rule of success."""
    ended = int((runs["status"] != "missing").sum())
    if not ended or (len(done) and done["success_rate"].isna().all()):
        return "-"
    wins = int((done["success_rate"] >= SOLVED_RATE).sum())
    low, high = wilson_interval(wins, ended)
    return f"{wins} of {ended}\n{low:.0%} to {high:.0%}"


def _first_success(done: Frame) -> str:
    if done.empty or done["success_rate"].isna().all():
        return "-"
    values = np.sort(done["first_success_trial"].fillna(math.inf).to_numpy(float))
    low, high, exact = median_interval(values)
    middle = float(np.quantile(values, 0.5, method="inverted_cdf"))  # never in the middle of a trial and never
    return f"{_trial(middle)}\n{_trial(low)} to {_trial(high)}{'' if exact else ' *'}"


def median_interval(ordered: np.ndarray) -> tuple[float, float, bool]:
    """95 % interval of a median from order statistics, at least so wide; the range, and False, below 6 values.

    The k-th smallest and k-th largest of n values hold the median with probability 1 - 2 P(Binomial(n, 1/2) < k).
    """
    n = len(ordered)
    k = int(binom.ppf(0.025, n, 0.5))
    while k > 0 and 2 * binom.cdf(k - 1, n, 0.5) > 0.05:
        k -= 1
    exact = k >= 1
    k = max(k, 1)
    return float(ordered[k - 1]), float(ordered[n - k]), exact


def _trial(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:g}"


def failure_sentences(runs: Frame) -> list[str]:
    """What is not in the figures, in words."""
    said = []
    for status, meaning in (("failed", "failed and count as not solved"), ("missing", "have not come to an end")):
        found = runs[runs["status"] == status]
        if len(found):
            names = [f"{r.task} {r.method} seed {r.seed}" for r in found.itertuples()]
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            said.append(f"{len(found)} of {len(runs)} runs {meaning}: {'; '.join(names[:5])}{more}.")
    return said
