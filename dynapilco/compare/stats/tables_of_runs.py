"""Reading and checking the tidy tables: nothing is compared before every row has been accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dynapilco.compare.stats.aggregate import Strata
from dynapilco.compare.stats.anchors import Anchors, Given, anchors_of, sentence
from dynapilco.compare.stats.frame import Table
from dynapilco.core.errors import UserError

RUN = ["task", "method", "seed"]
TRIAL = [*RUN, "trial"]
NORMALISED = "normalised"
METRICS = (NORMALISED, "score", "success_rate")
"""Columns of ``runs`` that say how good a run is; the first that is there decides."""
COMMON_SCALE = (NORMALISED, "success_rate")
"""Those that mean the same on every task, and may be put together over tasks."""
ALL_TASKS = "all tasks"
BUDGET_TOLERANCE = 0.25
"""Runs of a task may differ by this share in environment steps: a trial of a short run, an episode that ends early."""
SHOWN = 5


@dataclass(frozen=True)
class Runs:
    """Checked tables. ``runs``: failed runs carry the worst score; ``trials`` is None where none were given.

    ``cautions`` say in what the methods are not alike (seeds, budgets), and stand beside the answer. ``anchors`` are
    those that ``normalised`` was computed with (empty where it was given, or is not there);
    ``no_success`` names the tasks without a rule of success.
    """

    runs: Table
    trials: Table
    metrics: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    anchors: dict[str, Anchors] = field(default_factory=dict)
    no_success: frozenset[str] = frozenset()

    @property
    def tasks(self) -> list[str]:
        """Tasks in the order of their first run."""
        return list(dict.fromkeys(self.runs["task"]))

    @property
    def methods(self) -> list[str]:
        """Methods in the order of their first run."""
        return list(dict.fromkeys(self.runs["method"]))

    def of(self, task: str, method: str) -> Table:
        """The runs of one method on one task, by seed."""
        return self.runs[(self.runs["task"] == task) & (self.runs["method"] == method)]

    def trials_of(self, task: str, method: str) -> Table:
        """The trials of one method on one task, by seed and trial; empty where none were given."""
        if self.trials is None:
            return pd.DataFrame(columns=TRIAL)
        return self.trials[(self.trials["task"] == task) & (self.trials["method"] == method)]

    def strata(self, metric: str, method: str, tasks: Sequence[str]) -> Strata:
        """Scores of a method: one array of seeds for each task."""
        return [self.of(task, method)[metric].to_numpy(dtype=float) for task in tasks]

    def groups(self, metric: str) -> dict[str, list[str]]:
        """What is aggregated: each task by itself, and all of them where the metric has one scale on all.

        A normalised score of our own making says nothing more of a single task than the score does.
        """
        tasks = [task for task in self.tasks if metric != "success_rate" or task not in self.no_success]
        single = {} if metric == NORMALISED and self.anchors else {task: [task] for task in tasks}
        together = len(tasks) == len(self.tasks) > 1 and metric in COMMON_SCALE
        return {ALL_TASKS: tasks, **single} if together else single

    def metric_of(self, group: str) -> str:
        """By which metric a task, or all of them together, is told."""
        return self.metrics[1] if self.anchors and group != ALL_TASKS else self.metrics[0]


def check(
    runs: Table,
    trials: Table,
    *,
    unbalanced: bool = False,
    different_budgets: bool = False,
    anchors: Given | None = None,
) -> Runs:
    """Check the tables and count failed runs; see ``statistics`` for the columns and the errors."""
    runs = _tidy("runs", runs, RUN)
    if "status" not in runs:
        raise UserError("runs: column 'status' is missing; expected 'done' or 'failed' in each row")
    odd = runs[~runs["status"].isin(["done", "failed"])]
    if len(odd):
        raise UserError(
            f"runs: status must be 'done' or 'failed', got {sorted(set(map(str, odd['status'])))} for {_name(odd)}; "
            "finish these runs, or leave their rows out"
        )
    no_success = _tasks_without_success(runs)
    metrics = tuple(name for name in METRICS if name in runs and (name != "success_rate" or no_success is not None))
    if not metrics:
        raise UserError(f"runs: no column to compare; expected at least one of {', '.join(METRICS)}")
    notes, cautions = list[str](), list[str]()
    _check_seeds(runs, unbalanced, cautions)
    _check_budgets(runs, different_budgets, cautions)
    tasks = list(dict.fromkeys(runs["task"]))
    found = anchors_of(tasks, anchors)
    floors = {task: pair.low for task, pair in found.items()}
    runs = _count_failures(runs, metrics, no_success or frozenset(), floors, notes)
    used = found if len(tasks) > 1 and metrics[0] == "score" and len(found) == len(tasks) else {}
    if used:
        low, span = (runs["task"].map({t: f(a) for t, a in used.items()}) for f in (_low, _span))
        runs[NORMALISED], metrics = (runs["score"] - low) / span, (NORMALISED, *metrics)
        notes.append(sentence(used))
    elif len(tasks) > 1 and metrics[0] not in COMMON_SCALE:
        without = [task for task in tasks if task not in found]
        notes.append(
            "Scores of different tasks have different scales and were not put together: no anchors are known for "
            f"{', '.join(without)} (give the score that counts 0 and the one that counts 1)."
        )
    return Runs(runs, _check_trials(runs, trials, notes), metrics, notes, cautions, used, no_success or frozenset())


def _low(pair: Anchors) -> float:
    return pair.low


def _span(pair: Anchors) -> float:
    return pair.high - pair.low


def _tasks_without_success(runs: Table) -> frozenset[str] | None:
    """Tasks whose finished runs have no success rate at all, beside a score; None where that is every task."""
    if "success_rate" not in runs or not {"score", NORMALISED} & set(runs):
        return frozenset()
    done = runs[runs["status"] == "done"]
    empty = done.groupby("task")["success_rate"].agg(lambda rates: bool(rates.isna().all()))
    return None if len(empty) and empty.all() else frozenset(empty.index[empty])


def _tidy(name: str, table: Table, keys: list[str]) -> Table:
    """The table with its keys checked, sorted by seed (and trial) within tasks and methods as they came."""
    if not isinstance(table, pd.DataFrame):
        raise UserError(f"{name}: expected a pandas.DataFrame, got {type(table).__name__}")
    missing = [key for key in keys if key not in table]
    if missing:
        raise UserError(f"{name}: missing column(s) {', '.join(missing)}; got {', '.join(map(str, table.columns))}")
    if table.empty:
        raise UserError(f"{name}: the table is empty; there is nothing to compare")
    empty = table[table[keys].isna().any(axis=1)]
    if len(empty):
        raise UserError(f"{name}: empty cells in {', '.join(keys)}, first in row {empty.index[0]}")
    double = table[table.duplicated(keys, keep="first")]
    if len(double):
        raise UserError(f"{name}: more than one row for {_name(double, keys)}; every {keys[-1]} counts once")
    return table.sort_values(keys[2:], kind="stable").reset_index(drop=True).pipe(_in_order, table)


def _in_order(table: Table, original: Table) -> Table:
    """Tasks and methods in the order of their first row in ``original``."""
    for column in ("method", "task"):
        rank = {name: i for i, name in enumerate(dict.fromkeys(original[column]))}
        table = table.sort_values(column, key=lambda names, rank=rank: names.map(rank), kind="stable")
    return table.reset_index(drop=True)


def _check_seeds(runs: Table, unbalanced: bool, notes: list[str]) -> None:
    methods, missing = list(dict.fromkeys(runs["method"])), []
    for task, rows in runs.groupby("task", sort=False):
        absent = [method for method in methods if method not in set(rows["method"])]
        if absent:
            raise UserError(
                f"runs: {', '.join(absent)} has no run on task {task!r}, others have: aggregates over different tasks "
                "cannot be compared; run it, or leave the task or the method out"
            )
        seeds = sorted(set(rows["seed"]))
        for method in methods:
            there = set(rows.loc[rows["method"] == method, "seed"])
            missing += [f"{task} / {method} / seed {seed}" for seed in seeds if seed not in there]
    if missing and not unbalanced:
        raise UserError(
            f"runs: {len(missing)} missing that other methods have: {_some(missing)}; run them, "
            "or ask for unbalanced=True, which compares different numbers of seeds"
        )
    if missing:
        notes.append(f"Unbalanced: {len(missing)} runs that other methods have are missing: {_some(missing)}.")


def _check_budgets(runs: Table, different_budgets: bool, notes: list[str]) -> None:
    if "env_steps" not in runs:
        return
    for task, rows in runs[runs["status"] == "done"].groupby("task", sort=False):
        steps = rows["env_steps"].astype(float)
        if not np.isfinite(steps).all():
            raise UserError(f"runs: env_steps is not a number for {_name(rows[~np.isfinite(steps)])}")
        if steps.max() <= (1 + BUDGET_TOLERANCE) * steps.min():
            continue
        ranges = rows.assign(env_steps=steps).groupby("method", sort=False)["env_steps"].agg(["min", "max"])
        words = ", ".join(
            f"{m} {low:g}" + (f" to {high:g}" if high > low else "") for m, low, high in ranges.itertuples()
        )
        if not different_budgets:
            raise UserError(
                f"runs: budgets differ on task {task!r} (env_steps: {words}); compare runs of one budget, "
                "or ask for different_budgets=True, which says so beside the result"
            )
        notes.append(f"Budgets differ on {task} (environment steps: {words}).")


def _count_failures(
    runs: Table, metrics: Sequence[str], no_success: frozenset[str], floors: Mapping[str, float], notes: list[str]
) -> Table:
    """Failed runs get the worst score: 0 on a common scale, the low anchor of their task, or the worst finished one.

    Of those the lowest; a task without anchors on which nothing finished has no score.
    """
    failed, runs = runs["status"] == "failed", runs.copy()
    for metric in metrics:
        values = runs[metric].astype(float)
        exempt = runs["task"].isin(no_success) if metric == "success_rate" else failed
        bad = runs[~failed & ~exempt & ~np.isfinite(values)]
        if len(bad):
            raise UserError(f"runs: {metric} is not a finite number for {_name(bad)}, though its status is 'done'")
        if metric == "success_rate" and len(outside := runs[~failed & ~exempt & ~values.between(0, 1)]):
            raise UserError(f"runs: success_rate must lie in [0, 1]; it does not for {_name(outside)}")
        for task in dict.fromkeys(runs["task"]):
            here = runs["task"] == task
            done = values[here & ~failed]
            least = [0.0] if metric in COMMON_SCALE else [floors[task]] if metric == "score" and task in floors else []
            if done.empty and not least:
                raise UserError(f"runs: every run on task {task!r} failed, there is no score; leave the task out")
            if metric != "success_rate" or task not in no_success:
                values = values.mask(here & failed, min([*least, *done]))
        runs[metric] = values
    if failed.any():
        notes.append(
            f"{int(failed.sum())} of {len(runs)} runs failed; they count as the worst score of their task and as never "
            f"succeeded: {_name(runs[failed])}."
        )
    return runs


def _check_trials(runs: Table, trials: Table, notes: list[str]) -> Table | None:
    if trials is None or (isinstance(trials, pd.DataFrame) and trials.empty):
        return None
    trials = _tidy("trials", trials, TRIAL)
    known = pd.MultiIndex.from_frame(runs[RUN])
    given = pd.MultiIndex.from_frame(trials[RUN])
    if not given.isin(known).all():
        raise UserError(
            f"trials: rows of runs that the table of runs does not have: {_name(trials[~given.isin(known)])}"
        )
    absent = runs[(runs["status"] == "done") & ~known.isin(given)]
    for method, rows in absent.groupby("method", sort=False):
        if method in set(trials["method"]):
            raise UserError(f"trials: no row for {_name(rows)}, though its status is 'done'")
        notes.append(f"{method} has no table of trials: no curves, no success by trial.")
    if "return" in trials and len(bad := trials[~np.isfinite(trials["return"].astype(float))]):
        raise UserError(f"trials: return is not a finite number for {_name(bad, TRIAL)}")
    return trials


def _name(rows: Table, keys: Sequence[str] = RUN) -> str:
    """``task / method / seed 3`` of the first rows."""
    labels = [f"{key} {{}}" if key in ("seed", "trial") else "{}" for key in keys]
    return _some([" / ".join(labels).format(*row) for row in rows[list(keys)].itertuples(index=False)])


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
