"""The lines of the comparison: what is compared with what, the bars, how a result is judged, printed and written."""

from __future__ import annotations

import csv
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import workload
from make_environments import PEERS

CLOCKS = ("wall", "cpu")
# One thread keeps at most one core busy; the rest is for the grain of the clocks.
MOST_CORES = 1.1


@dataclass(frozen=True)
class Comparison:
    """One line of the table.

    Attributes
    ----------
    name : str
    ours : str
        Row of ``ours.py``.
    peer, row : str
        A peer, or ``"ours"``, and its row.
    bar : float, optional
        None where the issue sets none.
    cost : bool
        False: the ratio is peer/ours, how many times faster we are, and must reach the bar. True: the ratio is
        ours/peer and must not pass it.
    """

    name: str
    ours: str
    peer: str
    row: str
    bar: float | None = None
    cost: bool = False

    def ratio(self, ours: float, peer: float) -> float:
        """The ratio of two times as this line counts it."""
        return ours / peer if self.cost else peer / ours

    def met(self, ratio: float) -> bool:
        """Whether a ratio meets the bar."""
        assert self.bar is not None
        return ratio <= self.bar if self.cost else ratio >= self.bar


COMPARISONS = (
    Comparison("BBB, 1 sample", "bbb_1", "torchbayesian", "bbb_1", 2.0),
    Comparison("BBB, 10 samples", "bbb_10", "torch_blue", "bbb_10", 3.0),
    Comparison("BBB, 10 samples", "bbb_10", "torchbayesian", "bbb_10"),
    Comparison("SGLD, 8 chains", "sgld_8", "posteriors", "sgld_8", 2.0),
    Comparison("SGHMC, 8 chains", "sghmc_8", "posteriors", "sghmc_8"),
    Comparison("IVON over torch Adam", "ivon", "ivon", "adam", 1.15, cost=True),
    Comparison("IVON over our Adam", "ivon", "ours", "adam", 1.15, cost=True),
    Comparison("IVON", "ivon", "ivon", "ivon"),
    Comparison("HMC, 8 chains, N=200", "hmc_8_n200", "blackjax", "hmc_8_n200_vmap", 1.0),
    Comparison("HMC, 8 chains, N=200", "hmc_8_n200", "blackjax", "hmc_8_n200_map", 1.0),
    Comparison("HMC, 8 chains, N=1000", "hmc_8_n1000", "blackjax", "hmc_8_n1000_vmap", 1.0),
    Comparison("HMC, 8 chains, N=1000", "hmc_8_n1000", "blackjax", "hmc_8_n1000_map", 1.0),
)


def ratios(comparison: Comparison, ms: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    """The ratio of each round, by clock; empty where a side is missing."""
    if len(ms) < 2:
        return {}
    return {
        clock: [comparison.ratio(a, b) for a, b in zip(ms["ours"][clock], ms["peer"][clock], strict=True)]
        for clock in CLOCKS
    }


def verdict(result: dict[str, Any]) -> str:
    """``met``, ``missed``, ``no bar``, or why there is none."""
    comparison: Comparison = result["comparison"]
    if result["missing"]:
        return "not measured: no " + ", ".join(sorted(set(result["missing"].values())))
    busy = {side: sum(clocks["cpu"]) / sum(clocks["wall"]) for side, clocks in result["ms"].items()}
    parallel = [f"{side} kept {cores:.2f} cores busy" for side, cores in busy.items() if cores > MOST_CORES]
    if parallel:
        return "void: " + ", ".join(parallel)
    if comparison.bar is None:
        return "no bar"
    met = all(comparison.met(statistics.median(result["ratios"][clock])) for clock in CLOCKS)
    return "met" if met else "missed"


def rate(result: dict[str, Any], side: str) -> float | None:
    """Chain-leapfrogs a second of wall time, for the HMC lines."""
    if not result["comparison"].ours.startswith("hmc") or side not in result["ms"]:
        return None
    return 1e3 * workload.CHAINS * workload.LEAPFROGS / statistics.median(result["ms"][side]["wall"])


def header() -> str:
    """Titles of the columns."""
    titles = ("workload", "peer", "ours ms (range)", "peer ms (range)", "ratio (range)", "cpu", "bar", "verdict")
    return columns(*titles)


def columns(name: str, peer: str, ours: str, other: str, ratio: str, cpu: str, bar: str, end: str) -> str:
    """The columns at their widths."""
    return f"{name:22s} {peer:31s} {ours:>26s} {other:>26s} {ratio:>20s} {cpu:>6s} {bar:>7s}  {end}"


def line(result: dict[str, Any]) -> str:
    """One line of the table: wall times, ratio of wall times, median ratio of CPU times; leapfrogs a second."""
    comparison: Comparison = result["comparison"]
    times = {side: spread(result["ms"][side]["wall"], 3) if side in result["ms"] else "-" for side in ("ours", "peer")}
    ratio = spread(result["ratios"]["wall"], 2) if result["ratios"] else "-"
    cpu = f"{statistics.median(result['ratios']['cpu']):.2f}" if result["ratios"] else "-"
    sign = "<=" if comparison.cost else ">="
    bar = "-" if comparison.bar is None else f"{sign}{comparison.bar:.2f}"
    peer = f"{comparison.peer}/{comparison.row}"
    rates = {side: rate(result, side) for side in ("ours", "peer")}
    told = ", ".join(f"{side} {value:,.0f}" for side, value in rates.items() if value)
    end = f"{verdict(result)}{f' (chain-leapfrogs/s: {told})' if told else ''}"
    return columns(comparison.name, peer, times["ours"], times["peer"], ratio, cpu, bar, end)


def spread(values: Sequence[float], digits: int) -> str:
    """``median (smallest-largest)``."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low}-{high})"


def write(results: Sequence[dict[str, Any]], path: Path, rounds: int, seconds: float) -> None:
    """The CSV file, one row a line of the table, and the JSON file with all repetitions and the versions."""
    rows = [as_row(result) for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    content = {
        "versions": {"python": platform.python_version(), **{n: metadata.version(n) for n in ("torch", "dynapilco")}},
        "peers": PEERS,
        "processor": processor(),
        "rounds": rounds,
        "seconds": seconds,
        "lines": [
            {**result, "comparison": vars(result["comparison"]), "verdict": verdict(result)} for result in results
        ],
    }
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


def as_row(result: dict[str, Any]) -> dict[str, object]:
    """One row of the CSV file; nothing where a side was not measured."""
    comparison: Comparison = result["comparison"]
    row: dict[str, object] = {"workload": comparison.name, "peer": comparison.peer, "peer_row": comparison.row}
    for side in ("ours", "peer"):
        for clock in CLOCKS:
            values = result["ms"].get(side, {}).get(clock, [])
            row.update(three(f"{side}_{clock}_ms", values))
        row[f"{side}_chain_leapfrogs_per_s"] = rate(result, side)
    for clock in CLOCKS:
        row.update(three(f"{clock}_ratio", result["ratios"].get(clock, [])))
    ratio = "ours/peer" if comparison.cost else "peer/ours"
    return {**row, "ratio_is": ratio, "bar": comparison.bar, "verdict": verdict(result)}


def three(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Median, smallest and largest under names of their own."""
    functions = {"median": statistics.median, "min": min, "max": max}
    return {f"{name}_{key}": f(values) if values else None for key, f in functions.items()}


def processor() -> str:
    """The processor's model, as far as the system tells."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = [text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")]
    return named[0] if named else platform.processor()
