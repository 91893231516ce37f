"""The page docs/results/interval-coverage.md, and the summary that the package prints beside its intervals."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol


class Row(Protocol):
    """A row of the table; see interval_coverage.py."""

    statistic: str
    interval: str
    family: str
    tasks: int
    seeds: int
    repetitions: int
    coverage: float
    mean_width: float


NAMES = {
    "iqm": "IQM",
    "mean": "mean",
    "median": "median over tasks of the means",
    "probability_of_improvement": "probability of improvement",
    "rate": "success rate (binary outcomes)",
}
KNOWN_COLUMNS = ("statistic", "interval", "tasks", "seeds", "family", "lowest", "highest")
LOW, HIGH = 0.93, 0.97

HEAD = """# How often the 95 % intervals hold the truth

Simulated scores whose true aggregates are known by quadrature: {repetitions} experiments for each cell (standard
error 0.3 %) at 10 seeds, {others} (0.7 %) at other numbers; bootstrap with 1,000 resamples. Families: normal;
beta(2, 5); beta(1/2, 1/2), u-shaped; bimodal, 60 % of seeds near 0.9 and 40 % near 0.2, the shape of "some seeds fail";
Student's t with 3 degrees of freedom; lognormal (sigma 1). With several tasks each has its own place and scale. The
intervals are the package's own functions ([what they are](../reference/statistics.md)); `calibrated` is the default,
`percentile` is rliable's bootstrap. Made by `python experiments/interval_coverage.py` (resumable);
[all rows](interval-coverage.csv), with widths and on which side the truth was missed. **Bold**: outside 93-97 %; kinds
of scores below 93 % are named beside the interval, in the column `simulated_coverage` and in the sentences.
"""


def write_page(path: Path, rows: Sequence[Row]) -> None:
    """The tables at ten seeds, the other numbers of seeds, and what falls outside 93-97 %."""
    main = max(row.repetitions for row in rows)
    ten = [row for row in rows if row.seeds == 10]
    parts = [HEAD.format(repetitions=f"{main:,}", others=f"{min(row.repetitions for row in rows):,}")]
    for statistic, name in NAMES.items():
        own = [row for row in ten if row.statistic == statistic]
        if own:
            parts.append(f"## {name[0].upper()}{name[1:]}, 10 seeds\n\n{_by_family(own)}")
    parts.append(f"## Other numbers of seeds, default interval: lowest and highest over families\n\n{_by_seeds(rows)}")
    parts.append(f"## Outside 93-97 % at 10 seeds, default interval\n\n{_outside(ten)}")
    path.write_text("\n".join(parts), encoding="utf-8")


def _by_family(rows: Sequence[Row]) -> str:
    columns = sorted({(row.interval, row.tasks) for row in rows}, key=lambda c: (_order(c[0]), c[1]))
    cells = {(row.family, row.interval, row.tasks): row.coverage for row in rows}
    head = ["scores", *(f"{interval}, {tasks} task{'s' if tasks > 1 else ''}" for interval, tasks in columns)]
    body = [
        [family, *(_cell(cells.get((family, *column))) for column in columns)]
        for family in dict.fromkeys(row.family for row in rows)
    ]
    return _markdown(head, body)


def _order(interval: str) -> tuple[int, str]:
    return ({"calibrated": 0, "percentile": 1}.get(interval, 2), interval)


def _cell(coverage: float | None) -> str:
    if coverage is None:
        return ""
    text = f"{100 * coverage:.1f}"
    return text if LOW <= coverage <= HIGH else f"**{text}**"


def _by_seeds(rows: Sequence[Row]) -> str:
    rows = [row for row in rows if row.interval == "calibrated"]
    columns = sorted({(row.seeds, row.tasks) for row in rows})
    body = []
    for statistic, name in NAMES.items():
        cells = [[r.coverage for r in rows if (r.statistic, r.seeds, r.tasks) == (statistic, *c)] for c in columns]
        body.append([name, *(f"{100 * min(cell):.0f}-{100 * max(cell):.0f}" if cell else "" for cell in cells)])
    return _markdown(
        ["", *(f"{seeds} seeds, {tasks} task{'s' if tasks > 1 else ''}" for seeds, tasks in columns)], body
    )


def _outside(rows: Sequence[Row]) -> str:
    own = [row for row in rows if row.interval == "calibrated" and not LOW <= row.coverage <= HIGH]
    body = [[NAMES[r.statistic], r.family, str(r.tasks), f"{100 * r.coverage:.1f}"] for r in own]
    return _markdown(["statistic", "scores", "tasks", "coverage, %"], body) if body else "None.\n"


def _markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in body)]
    return "\n".join(lines) + "\n"


def write_known(path: Path, rows: Sequence[Row]) -> None:
    """Lowest and highest coverage of each kind of scores, one task and several, for ``simulated_coverage``."""
    grouped: dict[tuple[object, ...], list[float]] = {}
    for row in rows:
        if row.interval in ("calibrated", "percentile"):
            family = "any rate" if row.statistic == "rate" else row.family.split(",")[0]
            key = (row.statistic, row.interval, "several" if row.tasks > 1 else "one", row.seeds, family)
            grouped.setdefault(key, []).append(row.coverage)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(KNOWN_COLUMNS)
        writer.writerows([*key, f"{min(values):.4f}", f"{max(values):.4f}"] for key, values in grouped.items())
