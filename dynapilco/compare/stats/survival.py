"""Trials to the first success: Kaplan-Meier curves, in which a seed that never succeeds is censored, not dropped."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dynapilco.compare.stats.bootstrap import LEVEL
from dynapilco.compare.stats.frame import Table
from dynapilco.compare.stats.improvement import holm
from dynapilco.compare.stats.rates import wilson
from dynapilco.compare.stats.tables_of_runs import Runs
from dynapilco.core.errors import UserError

CURVE_COLUMNS = ["task", "method", "trial", "at_risk", "succeeded", "not_yet", "low", "high", "seeds"]
MEDIAN_COLUMNS = ["task", "method", "seeds", "succeeded", "censored", "median", "low", "high", "note"]
TEST_COLUMNS = ["task", "method_a", "method_b", "seeds_a", "seeds_b", "statistic", "p", "p_holm", "verdict"]


@dataclass(frozen=True)
class Times:
    """Trials of the first success of the seeds that succeeded, and the last trials of those that did not."""

    succeeded: np.ndarray
    censored: np.ndarray

    def __len__(self) -> int:
        return len(self.succeeded) + len(self.censored)

    @property
    def data(self) -> stats.CensoredData:
        """As scipy takes it."""
        return stats.CensoredData(uncensored=self.succeeded, right=self.censored)


def times(runs: Runs, task: str, method: str) -> Times:
    """Trial of the first success of each seed, right-censored at the last trial where there was none.

    A failed run counts as never succeeded, censored at the largest number of trials that a run of this method finished.
    """
    own, trials = runs.of(task, method), runs.trials_of(task, method)
    ends = trials.groupby("seed")["trial"].max() if len(trials) else own.set_index("seed")["trials"] - 1
    done = own["status"] == "done"
    first = own["first_success_trial"].astype(float).where(done)
    finished = [float(ends[seed]) for seed in own.loc[done, "seed"]] or [float(end) for end in ends.dropna()] or [0.0]
    last = own["seed"].map(ends).astype(float).where(done, max(finished))
    late = own[first > last]
    if len(late):
        seed, trial = late.iloc[0]["seed"], late.iloc[0]["first_success_trial"]
        raise UserError(
            f"runs: first_success_trial {trial:g} of {task} / {method} / seed {seed} lies after its last trial"
        )
    return Times(first.dropna().to_numpy(), last[first.isna()].to_numpy())


def has_times(runs: Runs) -> bool:
    """Whether trials to success can be told."""
    return "first_success_trial" in runs.runs and (runs.trials is not None or "trials" in runs.runs)


def timed(runs: Runs, task: str) -> list[str]:
    """The methods of a task whose budget in trials is known; none on a task where no run has ever succeeded."""
    if runs.runs.loc[runs.runs["task"] == task, "first_success_trial"].isna().all():
        return []
    return [m for m in runs.methods if "trials" in runs.runs or len(runs.trials_of(task, m))]


def kaplan_meier(sample: Times) -> Table:
    """Share that has not yet succeeded after each trial: columns trial, at_risk, succeeded, not_yet, low, high.

    The estimate is ``scipy.stats.ecdf``'s. While no seed was censored earlier it is a plain share of all seeds, with
    Wilson's interval; after that the log-log interval of Greenwood's variance, and at 0 and 1, where that does not
    exist, Wilson's on the seeds still at risk.
    """
    survival = stats.ecdf(sample.data).sf
    trials, share = survival.quantiles, survival.probabilities
    everyone = np.concatenate([sample.succeeded, sample.censored])
    at_risk = np.array([(everyone >= t).sum() for t in trials])
    low, high = wilson(share, len(everyone))
    censored_before = np.array([(sample.censored < t).any() for t in trials], dtype=bool)
    if censored_before.any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # undefined at 0 and 1: filled in below
            bounds = survival.confidence_interval(LEVEL, method="log-log")
        at_ends = wilson(share, at_risk)
        for side, bound, fallback in ((low, bounds.low, at_ends[0]), (high, bounds.high, at_ends[1])):
            side[:] = np.where(
                censored_before, np.where(np.isfinite(bound.probabilities), bound.probabilities, fallback), side
            )
    table = {"trial": trials, "at_risk": at_risk, "succeeded": [(sample.succeeded == t).sum() for t in trials]}
    return pd.DataFrame(table | {"not_yet": share, "low": low, "high": high})


def survival(runs: Runs) -> tuple[Table, Table, Table]:
    """Curves, medians with intervals, and log-rank tests of every pair, Holm-corrected over all tasks and pairs."""
    curves, medians, tests = [], [], []
    for task in runs.tasks if has_times(runs) else ():
        data = {method: times(runs, task, method) for method in timed(runs, task)}
        for method, sample in data.items():
            curve = kaplan_meier(sample)
            seeds = len(sample)
            if seeds < 2:
                curve[["low", "high"]] = np.nan
            curves.append(curve.assign(task=task, method=method, seeds=seeds)[CURVE_COLUMNS])
            medians.append({"task": task, "method": method} | _median(curve, sample))
        tests += [_log_rank(task, a, b, data[a], data[b]) for a, b in itertools.combinations(data, 2)]
    table = pd.DataFrame(tests, columns=TEST_COLUMNS)
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    sooner = np.where(table["statistic"] > 0, table["method_a"], table["method_b"])
    table["verdict"] = [
        f"{m} succeeds sooner" if p < 0.05 else "no difference shown"
        for m, p in zip(sooner, table["p_holm"], strict=True)
    ]
    all_curves = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=CURVE_COLUMNS)
    return all_curves, pd.DataFrame(medians, columns=MEDIAN_COLUMNS), table


def _median(curve: Table, sample: Times) -> dict[str, Any]:
    """First trial by which half have succeeded; bounds where the curve's cross one half (Brookmeyer, Crowley 1982)."""

    def crossing(column: str) -> float:
        reached = curve.loc[curve[column] <= 0.5, "trial"]
        return float(reached.iloc[0]) if len(reached) else np.nan

    row = {"seeds": len(sample), "succeeded": len(sample.succeeded), "censored": len(sample.censored)}
    row |= {"median": crossing("not_yet"), "low": crossing("low"), "high": crossing("high")}
    notes = [] if len(sample) > 1 else ["one seed only: an interval cannot be given"]
    if np.isnan(row["median"]):
        notes.append("the median was not reached within the budget")
    elif np.isnan(row["high"]) and len(sample) > 1:
        notes.append("the upper bound was not reached within the budget")
    return row | {"note": "; ".join(notes)}


def _log_rank(task: str, a: str, b: str, x: Times, y: Times) -> dict[str, Any]:
    """``scipy.stats.logrank``; the statistic is positive where ``a`` succeeds sooner.

    Where it has no variance (nobody succeeds, or all at one trial) the curves do not differ: p = 1.
    """
    row = {"task": task, "method_a": a, "method_b": b, "seeds_a": len(x), "seeds_b": len(y)}
    if min(len(x), len(y)) < 2:
        return row | {"statistic": np.nan, "p": np.nan}
    if not len(x.succeeded) + len(y.succeeded):
        return row | {"statistic": 0.0, "p": 1.0}
    with np.errstate(all="ignore"):
        result = stats.logrank(x.data, y.data)
    defined = np.isfinite(result.statistic)
    return row | {
        "statistic": float(result.statistic) if defined else 0.0,
        "p": float(result.pvalue) if defined else 1.0,
    }
