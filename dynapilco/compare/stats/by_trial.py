"""Tables over trials: success rate per trial, and curves against environment steps on a common grid."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dynapilco.compare.stats.frame import Table
from dynapilco.compare.stats.intervals import IntervalKind, aggregate_interval, interval_name
from dynapilco.compare.stats.known import coverage_note
from dynapilco.compare.stats.rates import effective_count, wilson
from dynapilco.compare.stats.scores import Rng
from dynapilco.compare.stats.tables_of_runs import ALL_TASKS, Runs
from dynapilco.core.errors import UserError

GRID = 50
CURVE_RESAMPLES = 2_000
SUCCESS_COLUMNS = ["task", "method", "trial", "successes", "seeds", "rate", "low", "high", "simulated_coverage"]
CURVE_COLUMNS = ["task", "method", "metric", "env_steps", "statistic", "estimate", "low", "high", "seeds", "interval"]


def policy_trials(trials: Table) -> Table:
    """Without the trials that explore."""
    return trials[~trials["explored"].astype(bool)] if "explored" in trials else trials


def success(runs: Runs) -> Table:
    """Successes of each policy trial over seeds, with Wilson's intervals.

    A failed run succeeded at no trial; a run that ended before a trial (another budget) is not counted there.
    """
    rows = []
    if runs.trials is None or "success" not in runs.trials:
        return pd.DataFrame(rows, columns=SUCCESS_COLUMNS)
    for task in runs.tasks:
        for method in runs.methods:
            trials = policy_trials(runs.trials_of(task, method))
            unknown = trials[trials["success"].isna()]
            if len(unknown) == len(trials):
                continue  # a task without a success rule, or a method without trials
            if len(unknown):
                first = unknown.iloc[0]
                raise UserError(
                    f"trials: success is empty for {task} / {method} / seed {first['seed']} / trial {first['trial']}, "
                    "though other trials have it"
                )
            rows += _rates(task, method, runs.of(task, method), trials)
    return pd.DataFrame(rows + _over_tasks(rows, runs), columns=SUCCESS_COLUMNS)


def _rates(task: str, method: str, own: Table, trials: Table) -> list[dict]:
    failed = set(own.loc[own["status"] == "failed", "seed"])
    done = trials[~trials["seed"].isin(failed)]
    rows = []
    for trial in sorted(set(trials["trial"])):
        here = done[done["trial"] == trial]
        successes, seeds = int(here["success"].astype(bool).sum()), len(here) + len(failed)
        low, high = wilson(np.array(successes / seeds), seeds)
        row = {"task": task, "method": method, "trial": trial, "successes": successes, "seeds": seeds}
        row |= {"rate": successes / seeds, "low": float(low), "high": float(high)}
        rows.append(row | {"simulated_coverage": coverage_note("rate", "calibrated", seeds, 1)})
    return rows


def _over_tasks(rows: list[dict], runs: Runs) -> list[dict]:
    """Mean over tasks of the rates, where every task has that trial of that method."""
    together = []
    for method in runs.methods if len(runs.tasks) > 1 else ():
        own = [row for row in rows if row["method"] == method]
        for trial in sorted({row["trial"] for row in own}):
            parts = [row for row in own if row["trial"] == trial]
            if len(parts) < len(runs.tasks):
                continue
            rate = float(np.mean([row["rate"] for row in parts]))
            low, high = wilson(np.array(rate), effective_count([row["seeds"] for row in parts]))
            sums = {key: sum(row[key] for row in parts) for key in ("successes", "seeds")}
            head = {"task": ALL_TASKS, "method": method, "trial": trial, **sums}
            fewest = min(row["seeds"] for row in parts)
            head |= {"rate": rate, "low": float(low), "high": float(high)}
            together.append(head | {"simulated_coverage": coverage_note("rate", "calibrated", fewest, len(parts))})
    return together


def curves(runs: Runs, rng: Rng, kind: IntervalKind) -> Table:
    """Sample efficiency: the newest finished trial's return (IQM) and success (rate) at each point of a grid of steps.

    The grid of a task starts where every run has finished a trial and ends, for each method, where its first run ends.
    A failed run has the worst return of the task, and no success, after its last trial.
    """
    rows: list[Table] = []
    if runs.trials is None or "env_steps" not in runs.trials:
        return pd.DataFrame(columns=CURVE_COLUMNS)
    for task in runs.tasks:
        everyone = runs.trials[runs.trials["task"] == task]
        if everyone.empty:
            continue
        steps = np.unique(everyone["env_steps"].to_numpy(dtype=float))
        first = everyone.groupby(["method", "seed"])["env_steps"].min().max()
        grid = steps[steps >= first]
        grid = grid if len(grid) <= GRID else np.linspace(first, steps[-1], GRID)
        for method in runs.methods:
            for metric in ("return", "success"):
                if metric in everyone and not runs.trials_of(task, method)[metric].isna().all():
                    rows.append(_curve(runs, task, method, metric, grid, rng, kind))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=CURVE_COLUMNS)


def _curve(runs: Runs, task: str, method: str, metric: str, grid, rng: Rng, kind: IntervalKind) -> Table:
    trials, own = runs.trials_of(task, method), runs.of(task, method)
    done = trials[trials["seed"].isin(own.loc[own["status"] == "done", "seed"])]
    last = done.groupby("seed")["env_steps"].max().min() if len(done) else grid[-1]
    grid = grid[grid <= last]
    worst = 0.0 if metric == "success" else float(runs.trials.loc[runs.trials["task"] == task, metric].min())
    values = np.stack(
        [_held(trials[trials["seed"] == run.seed], metric, grid, run.status, worst) for run in own.itertuples()]
    )
    if metric == "success":
        estimate = values.mean(axis=0)
        low, high = wilson(estimate, len(own))
        statistic, name = "rate", interval_name("rate", "calibrated")
    else:
        stream = rng("curve", metric, task, method)
        estimate, low, high = aggregate_interval([values.T], "iqm", stream, kind, CURVE_RESAMPLES)
        statistic, name = "iqm", interval_name("iqm", kind)
    table = pd.DataFrame({"env_steps": grid, "estimate": estimate, "low": low, "high": high})
    head = {"task": task, "method": method, "metric": metric, "statistic": statistic, "seeds": len(own)}
    return table.assign(**head, interval=name if len(own) > 1 else "none")[CURVE_COLUMNS]


def _held(trials: Table, metric: str, grid: np.ndarray, status: str, worst: float) -> np.ndarray:
    """Value of the newest trial that is finished at each grid point."""
    steps = trials["env_steps"].to_numpy(dtype=float)
    if len(steps) == 0:
        return np.full(len(grid), worst)
    # a trial that explores may have no success: it is no success of the policy
    values = trials[metric].astype(float).fillna(0.0).to_numpy()
    held = values[np.clip(np.searchsorted(steps, grid, side="right") - 1, 0, None)]
    return np.where(grid > steps[-1], worst, held) if status == "failed" else held
