"""Statistics of a comparison as it lies in its folder: half finished, with failures, with cells that are no numbers.

`dynapilco.compare.stats` refuses tables that are not whole. A comparison that goes on is not whole, and is looked at
all the same: here is decided what of it can be compared, and every decision is a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dynapilco.compare.stats import Statistics, statistics
from dynapilco.compare.stats.anchors import Given, anchors_of
from dynapilco.core.errors import UserError

Frame = Any
"""A pandas frame; pandas' annotations do not know what a column holds."""
RUN = ["task", "method", "seed"]
SHOWN = 5


def infer(runs: Frame, trials: Frame, anchors: Given | None = None) -> tuple[Statistics | None, list[str]]:
    """What can be said so far.

    Parameters
    ----------
    runs, trials : DataFrame
        As :func:`dynapilco.compare.load` gives them; rows with the status ``missing`` are left out.
    anchors : mapping, optional
        See :func:`dynapilco.compare.statistics`.

    Returns
    -------
    Statistics or None
        None where nothing can be compared.
    notes : list of str
        What was left out, or counted otherwise, and why there is nothing.
    """
    ended, notes = runs[runs["status"] != "missing"].copy(), list[str]()
    if ended.empty:
        return None, ["no statistics: no run has come to its end yet"]
    ended = _without_numbers(ended, notes)
    ended = _comparable(ended, runs, anchors, notes)
    if ended.empty:
        return None, notes
    theirs = _broken_off(trials.merge(ended[RUN], on=RUN), ended, notes)
    try:  # fewer seeds and other budgets were asked for, or are not there yet: both are said in the sentences
        return statistics(ended, theirs, unbalanced=True, different_budgets=True, anchors=anchors), notes
    except UserError as error:
        return None, [*notes, f"no statistics: {error}"]


def _without_numbers(ended: Frame, notes: list[str]) -> Frame:
    """A run whose episodes earned no number is as good as a failed one."""
    done = ended["status"] == "done"
    rated = ended["success_rate"].notna().groupby(ended["task"]).transform("any")
    bad = done & (~np.isfinite(ended["score"]) | (rated & ended["success_rate"].isna()))
    if bad.any():
        notes.append(
            f"{int(bad.sum())} runs came to their end with a score or a success rate that is no number; they count as "
            f"failed: {names(ended[bad])}"
        )
        ended.loc[bad, "status"] = "failed"
    return ended


def _comparable(ended: Frame, runs: Frame, anchors: Given | None, notes: list[str]) -> Frame:
    """Without methods of which nothing has ended, and tasks that not every other method has."""
    waiting = [m for m in dict.fromkeys(runs["method"]) if m not in set(ended["method"])]
    if waiting:
        notes.append(f"no run of {', '.join(waiting)} has come to its end yet: nothing is said of it")
    methods, found = set(ended["method"]), dict.fromkeys(runs["task"])
    known = anchors_of(list(found), anchors)
    for task in found:
        here = ended[ended["task"] == task]
        absent = [m for m in dict.fromkeys(runs["method"]) if m in methods - set(here["method"])]
        if absent:
            notes.append(f"no run of {', '.join(absent)} has ended on {task} yet: no statistics there")
        elif (here["status"] == "failed").all() and task not in known:
            notes.append(f"every run on {task} failed, and it has no anchors: no statistics there")
        else:
            continue
        ended = ended[ended["task"] != task]
    return ended


def _broken_off(trials: Frame, ended: Frame, notes: list[str]) -> Frame:
    """A trial that broke off has no word on success where others of its task have: it was none.

    Said of finished runs only: no trial of a failed one counts as a success anyhow.
    """
    ruled = trials["success"].notna().groupby(trials["task"]).transform("any")
    broken = ruled & trials["success"].isna() & ~trials["explored"]
    trials.loc[broken, "success"] = False
    told = trials[broken].merge(ended.loc[ended["status"] == "done", RUN], on=RUN)
    if len(told):
        notes.append(f"{len(told)} trials broke off; they count as without success: {names(told)}")
    return trials


def names(rows: Frame) -> str:
    """The first few runs of a table, in words."""
    found: Sequence[str] = list(dict.fromkeys(f"{r.task} {r.method} seed {r.seed}" for r in rows.itertuples()))
    return "; ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
