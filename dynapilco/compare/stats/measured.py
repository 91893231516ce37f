"""Tables of what was measured beside the score: how good the model's uncertainty is, and what a run costs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dynapilco.compare.stats.by_trial import policy_trials
from dynapilco.compare.stats.frame import Table
from dynapilco.compare.stats.intervals import IntervalKind, aggregate_interval, interval_name
from dynapilco.compare.stats.known import coverage_note
from dynapilco.compare.stats.scores import Rng
from dynapilco.compare.stats.tables_of_runs import Runs

UNCERTAINTY = (
    "coverage_95_one_step", "coverage_95_horizon", "model_nll", "nll_horizon", "crps_one_step", "crps_horizon",
    "sharpness_one_step", "sharpness_horizon",
)  # fmt: skip
RUN_COSTS = ("wall_seconds", "env_steps", "peak_memory_mb")
TRIAL_COSTS = ("seconds_model", "seconds_policy", "seconds_env")
COLUMNS = [
    "task",
    "method",
    "quantity",
    "trial",
    "statistic",
    "estimate",
    "low",
    "high",
    "seeds",
    "without",
    "interval",
]
COLUMNS += ["simulated_coverage"]


def uncertainty(runs: Runs, rng: Rng, kind: IntervalKind, resamples: int) -> Table:
    """Calibration and sharpness: each run's mean over its policy trials (``trial`` empty), and each trial by itself.

    Runs without a value (failed early, a method without a model) are counted in ``without``.
    """
    parts = []
    for task, method, trials in _policy_trials(runs):
        for quantity in UNCERTAINTY:
            if quantity not in trials:
                continue
            seeds = runs.of(task, method)["seed"]
            values = trials.assign(value=trials[quantity].astype(float))
            if not np.isfinite(values["value"]).any():  # a method without a model, over hundreds of trials
                continue
            every = values.groupby("seed")["value"].mean().reindex(seeds)
            head = {"task": task, "method": method, "quantity": quantity}
            parts += _rows(head, None, every, rng, kind, resamples)
            for trial, rows in values.groupby("trial"):
                each = rows.set_index("seed")["value"].reindex(seeds)
                parts += _rows(head, trial, each, rng, kind, resamples, statistics=("mean",))
    return _table(parts)


def cost(runs: Runs, rng: Rng, kind: IntervalKind, resamples: int) -> Table:
    """Wall-clock, steps, memory of finished runs; seconds of fit, search and environment a policy trial."""
    parts = []
    for task in runs.tasks:
        for method in runs.methods:
            own = runs.of(task, method).set_index("seed")
            for quantity in (name for name in RUN_COSTS if name in own):
                head = {"task": task, "method": method, "quantity": quantity}
                values = own[quantity].astype(float).where(own["status"] == "done")
                parts += _rows(head, None, values, rng, kind, resamples)
    for task, method, trials in _policy_trials(runs):
        own = runs.of(task, method).set_index("seed")
        for quantity in (name for name in TRIAL_COSTS if name in trials):
            head = {"task": task, "method": method, "quantity": f"{quantity}_per_trial"}
            seconds = trials.assign(value=trials[quantity].astype(float)).groupby("seed")["value"].mean()
            values = seconds.reindex(own.index).where(own["status"] == "done")
            parts += _rows(head, None, values, rng, kind, resamples)
    return _table(parts)


def _policy_trials(runs: Runs):
    for task in runs.tasks:
        for method in runs.methods:
            trials = policy_trials(runs.trials_of(task, method))
            if len(trials):
                yield task, method, trials


def _rows(head, trial, values: Table, rng: Rng, kind, resamples, statistics=("iqm", "mean")) -> list[dict]:
    """Aggregates over the seeds that have a value; no row where none has."""
    known = values[np.isfinite(values)].to_numpy(dtype=float)
    rows = []
    for statistic in statistics if len(known) else ():
        stream = rng("measured", head["task"], head["method"], head["quantity"], str(trial), statistic)
        estimate, low, high = map(float, aggregate_interval([known], statistic, stream, kind, resamples))
        low, high = possible(head["quantity"], low, high)
        row = {**head, "trial": trial, "statistic": statistic, "estimate": estimate, "low": low, "high": high}
        row |= {"seeds": len(known), "without": len(values) - len(known)}
        row["interval"] = interval_name(statistic, kind) if len(known) > 1 else "none"
        rows.append(row | {"simulated_coverage": coverage_note(statistic, kind, len(known), 1)})
    return rows


def possible(quantity: str, low: float, high: float) -> tuple[float, float]:
    """Bounds cut at what a quantity can be at all: shares lie in [0, 1], costs and widths are not negative."""
    if quantity in ("model_nll", "nll_horizon"):
        return low, high
    most = 1.0 if quantity.startswith("coverage_") else np.inf
    return float(np.clip(low, 0.0, most)), float(np.clip(high, 0.0, most))


def _table(rows: list[dict]) -> Table:
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"trial": "Int64"})
