"""What simulation says of an interval's coverage, printed beside it (made by experiments/interval_coverage.py)."""

from __future__ import annotations

import csv
import functools
from importlib import resources

from dynapilco.compare.stats.wording import NOT_SIMULATED, ONE_SEED

FLOOR = 0.93
"""Below this, the kind of scores is named."""


def coverage_note(statistic: str, kind: str, seeds: int, tasks: int) -> str:
    """How often such an interval held the truth in simulation, e.g. ``95-97 %`` or ``94-96 %, lognormal 84.9 %``.

    Parameters
    ----------
    statistic : str
        ``"iqm"``, ``"mean"``, ``"median"``, ``"optimality_gap"``, ``"probability_of_improvement"`` or ``"rate"``.
    kind : str
        ``"calibrated"`` or ``"percentile"``.
    seeds, tasks : int
        Of the data; the simulation used is the one with the most seeds that are not more than these.
    """
    if seeds < 2:
        return ONE_SEED
    # with one task the median over tasks is the mean; the optimality gap is a mean of clipped scores
    statistic = "mean" if statistic == "optimality_gap" or (statistic == "median" and tasks == 1) else statistic
    kind = "calibrated" if statistic == "rate" else kind
    several = "several" if tasks > 1 else "one"
    rows = [
        row
        for row in _table()
        if (row["statistic"], row["interval"], row["tasks"]) == (statistic, kind, several)
        and int(row["seeds"]) <= seeds
    ]
    if not rows:
        return NOT_SIMULATED
    largest = max(int(row["seeds"]) for row in rows)
    ends = {
        row["family"]: (float(row["lowest"]), float(row["highest"])) for row in rows if int(row["seeds"]) == largest
    }
    kept = [pair for pair in ends.values() if pair[0] >= FLOOR or statistic == "rate"]
    short = [f"{name} {100 * low:.1f} %" for name, (low, _) in ends.items() if low < FLOOR and statistic != "rate"]
    band = [f"{100 * min(low for low, _ in kept):.0f}-{100 * max(high for _, high in kept):.0f} %"] if kept else []
    return ", ".join([*band, *short]) + (f" (simulated at {largest} seeds)" if largest != seeds else "")


@functools.cache
def _table() -> list[dict[str, str]]:
    text = resources.files("dynapilco.compare.stats").joinpath("known_coverage.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
