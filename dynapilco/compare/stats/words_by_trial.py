"""Sentences on trials: success, trials to it, and what was measured beside the score."""

from __future__ import annotations

import numpy as np

from dynapilco.compare.stats.frame import Table
from dynapilco.compare.stats.wording import NAMES, bounds, number, p_value, simulated


def last_trial(success: Table) -> list[str]:
    """Successes of each method at its last trial."""
    said = []
    for task in dict.fromkeys(success["task"]):
        own = success[success["task"] == task]
        last = own.loc[own.groupby("method", sort=False)["trial"].idxmax()]
        words = [
            f"{row['method']} {row['successes']} of {row['seeds']} at trial {row['trial']} "
            f"({number(100 * row['low'])} to {number(100 * row['high'])} %)"
            for row in last.to_dict("records")
        ]
        said.append(
            f"Success at the last trial on {task} (seeds, Wilson 95 % intervals): {', '.join(words)}"
            f"{_depending(last['simulated_coverage'].tolist())}."
        )
    return said


def _depending(notes: list[str]) -> str:
    said = simulated(notes)
    return f"{said}, depending on the rate" if " of cases" in said else said


def medians(table: Table, tests: Table) -> list[str]:
    """Median trials to the first success, and what the log-rank tests show."""
    said = []
    for task in dict.fromkeys(table["task"]):
        words = []
        for row in table[table["task"] == task].to_dict("records"):
            reached = "not reached" if np.isnan(row["median"]) else f"{row['median']:g}"
            ends = [f"{row['low']:g}" if np.isfinite(row["low"]) else "beyond the budget"]
            ends.append(f"{row['high']:g}" if np.isfinite(row["high"]) else "beyond the budget")
            interval = f"95 % interval {ends[0]} to {ends[1]}" if row["seeds"] > 1 else "one seed: no interval"
            words.append(f"{row['method']} {reached} ({interval}; {row['succeeded']} of {row['seeds']} seeds ever)")
        own = tests[tests["task"] == task]
        pairs = [_sooner(row) for row in own.to_dict("records") if row["verdict"] != "no difference shown"]
        verdict = (
            f" Log-rank tests, Holm-corrected: {', '.join(pairs) if pairs else 'no difference shown'}."
            if len(own)
            else ""
        )
        said.append(f"Median trials to the first success on {task}: {', '.join(words)}.{verdict}")
    return said


def _sooner(row: dict) -> str:
    first, second = row["method_a"], row["method_b"]
    if row["verdict"] != f"{first} succeeds sooner":
        first, second = second, first
    return f"{first} succeeds sooner than {second} (p = {p_value(row['p_holm'])})"


def measured(table: Table, quantity: str) -> list[str]:
    """A measured quantity of each method, a sentence a task."""
    said = []
    rows = table[(table["quantity"] == quantity) & table["trial"].isna() & (table["statistic"] == "iqm")]
    for task in dict.fromkeys(rows["task"]):
        own = rows[rows["task"] == task].to_dict("records")
        words = [
            f"{row['method']} {number(row['estimate'])} ({bounds(row, first=i == 0)})" for i, row in enumerate(own)
        ]
        name = NAMES[quantity]
        said.append(f"{name[0].upper()}{name[1:]} on {task} (IQM): {', '.join(words)}.")
    return said
