"""How often the 95 % intervals of ``dynapilco compare`` hold the truth: simulated scores of known distributions.

    python experiments/interval_coverage.py

Every statistic that is printed (IQM, mean, median over tasks, probability of improvement, success rate), by the default
interval, by the percentile bootstrap (rliable's) and, for the IQM, by the intervals that were tried and not chosen;
5,000 simulated experiments a row at 10 seeds, 1,000 at 3, 5 and 20, with 1, 2 and 5 tasks. The intervals are the
package's own functions. It writes docs/results/interval-coverage.csv (resumable: a finished row is kept), a table in
docs/results/interval-coverage.md, and the summary that the package prints beside its intervals.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from coverage_parts import families
from coverage_parts.candidates import CANDIDATES
from coverage_parts.table import write_known, write_page

from dynapilco.compare.stats.aggregate import Strata
from dynapilco.compare.stats.improvement import improvement_interval
from dynapilco.compare.stats.intervals import aggregate_interval
from dynapilco.compare.stats.rates import effective_count, wilson
from dynapilco.core.seeding import numpy_generator

ROOT = Path(__file__).parents[1]
MAIN_SEEDS, OTHER_SEEDS, TASKS = 10, (5, 20, 3), (1, 2, 5)
SEEDS = (MAIN_SEEDS, *OTHER_SEEDS)
KINDS = ("calibrated", "percentile")
SHIFTS = {"equal": 0.0, "shift 0.5": 0.5, "shift 1.5": 1.5}
RATES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
BATCH = 250
TRUTHS = {"iqm": families.true_iqm, "mean": families.true_mean, "median": families.true_median}


@dataclass(frozen=True)
class Row:
    """One simulated situation: shares of the repetitions, widths in units of the scores."""

    statistic: str
    interval: str
    family: str
    tasks: int
    seeds: int
    repetitions: int
    truth: float
    coverage: float
    truth_below: float
    truth_above: float
    mean_width: float


KEY = ("statistic", "interval", "family", "tasks", "seeds", "repetitions")
Draw = Callable[[np.random.Generator, int], Strata]
Bounds = Callable[[Strata, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Case:
    """A situation to simulate: ``draw(rng, repetitions)`` gives the strata that ``bounds`` takes."""

    key: tuple[str, str, str, int, int]
    truth: Callable[[], float]
    draw: Draw
    bounds: Bounds

    def run(self, repetitions: int) -> Row:
        """Simulate; the random numbers depend on the situation alone."""
        rng, truth = numpy_generator(0, "/".join(map(str, self.key))), self.truth()
        parts = [self.bounds(self.draw(rng, size), rng) for size in batches(repetitions)]
        low, high = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        below, above = float(np.mean(truth < low)), float(np.mean(truth > high))
        inside = float(np.mean((low <= truth) & (truth <= high)))
        return Row(*self.key, repetitions, truth, inside, below, above, float(np.mean(high - low)))


def batches(repetitions: int) -> list[int]:
    """Sizes of the batches, which bound the memory."""
    return [min(BATCH, repetitions - start) for start in range(0, repetitions, BATCH)]


def aggregate_cases(resamples: int) -> Iterator[Case]:
    """IQM, mean and median; the IQM also by the candidates that were not chosen."""
    for seeds, tasks, family in itertools.product(SEEDS, TASKS, families.FAMILIES):
        mixtures = families.tasks_of(family, tasks)

        def draw(rng, size, mixtures=mixtures, seeds=seeds):
            return [mixture.draw(rng, (size, seeds)) for mixture in mixtures]

        for statistic, truth in TRUTHS.items():
            if statistic == "median" and tasks == 1:
                continue  # it is the mean
            for kind in KINDS if seeds == MAIN_SEEDS else ("calibrated",):

                def bounds(strata, rng, statistic=statistic, kind=kind):
                    return aggregate_interval(strata, statistic, rng, kind, resamples)[1:]

                key = (statistic, kind, family, tasks, seeds)
                yield Case(key, lambda t=truth, m=mixtures: t(m), draw, bounds)
        for name, candidate in CANDIDATES.items() if seeds == MAIN_SEEDS and tasks <= 2 else ():
            key = ("iqm", name, family, tasks, seeds)
            yield Case(
                key, lambda m=mixtures: families.true_iqm(m), draw, lambda s, rng, c=candidate: c(s, rng, resamples)
            )


def improvement_cases(resamples: int) -> Iterator[Case]:
    """Probability of improvement: no difference, a moderate and a large one on all tasks, and tasks that disagree."""
    for seeds, tasks, family in itertools.product(SEEDS, TASKS, families.FAMILIES):
        y = families.tasks_of(family, tasks)
        shifted = {name: families.tasks_of(family, tasks, shift) for name, shift in SHIFTS.items()}
        if tasks > 1:
            shifted["tasks disagree"] = [families.tasks_of(family, tasks, -0.5)[0], *shifted["shift 1.5"][1:]]
        kinds = KINDS if seeds == MAIN_SEEDS and tasks == 1 else ("calibrated",)
        for (name, x), kind in itertools.product(shifted.items(), kinds):

            def draw(rng, size, x=x, y=y, seeds=seeds):
                return [mixture.draw(rng, (size, seeds)) for mixture in (*x, *y)]

            def bounds(strata, rng, kind=kind, tasks=tasks):
                return improvement_interval(strata[:tasks], strata[tasks:], rng, kind, resamples)[1:]

            key = ("probability_of_improvement", kind, f"{family}, {name}", tasks, seeds)
            yield Case(key, lambda x=x, y=y: families.true_improvement(x, y), draw, bounds)


def rate_cases() -> Iterator[Case]:
    """Success rates: the same on all tasks, and spread over tasks from 10 to 90 %."""
    for seeds, tasks in itertools.product(SEEDS, TASKS):
        situations = {f"rate {rate}": np.full(tasks, rate) for rate in RATES}
        if tasks > 1:
            situations["rates 0.1 to 0.9"] = np.linspace(0.1, 0.9, tasks)
        for name, rates in situations.items():

            def draw(rng, size, rates=rates, seeds=seeds):
                return [rng.binomial(seeds, rate, size=size) / seeds for rate in rates]

            def bounds(strata, rng, tasks=tasks, seeds=seeds):
                del rng
                return wilson(np.mean(strata, axis=0), effective_count([seeds] * tasks))

            yield Case(("rate", "calibrated", name, tasks, seeds), lambda r=rates: float(r.mean()), draw, bounds)


def read(path: Path) -> dict[tuple[str, ...], Row]:
    """The rows that are finished, by what they simulate."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = [Row(**{f.name: convert(f.type, raw[f.name]) for f in fields(Row)}) for raw in csv.DictReader(file)]
    return {tuple(str(getattr(row, name)) for name in KEY): row for row in rows}


def convert(kind: object, text: str) -> object:
    """A cell in its field's type."""
    return {"str": str, "int": int, "float": float}[str(kind)](text)


def main() -> None:
    """Simulate what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5_000, help="simulated experiments a row, at 10 seeds")
    parser.add_argument("--other-repetitions", type=int, default=1_000, help="the same at other numbers of seeds")
    parser.add_argument("--resamples", type=int, default=1_000, help="bootstrap resamples of an interval")
    parser.add_argument("--only", default="", help="statistics to simulate, by comma; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder of the table and the page")
    parser.add_argument("--known", type=Path, default=ROOT / "dynapilco/compare/stats/known_coverage.csv")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    table = args.out / "interval-coverage.csv"
    done = read(table)
    cases = [*rate_cases(), *aggregate_cases(args.resamples), *improvement_cases(args.resamples)]
    cases = [case for case in cases if not args.only or case.key[0] in args.only.split(",")]
    wanted = []
    for case in sorted(cases, key=priority):
        repetitions = args.repetitions if case.key[4] == MAIN_SEEDS else args.other_repetitions
        key = (*map(str, case.key), str(repetitions))
        if key not in done:
            done[key] = case.run(repetitions)
            append(table, done[key])
        wanted.append(done[key])
    write_page(args.out / "interval-coverage.md", wanted)
    write_known(args.known, wanted)


def priority(case: Case) -> tuple[int, int]:
    """Ten seeds first; the defaults before what they are compared with."""
    _, interval, _, _, seeds = case.key
    return SEEDS.index(seeds), KINDS.index(interval) if interval in KINDS else 2


def append(table: Path, row: Row) -> None:
    """Add one finished row."""
    new = not table.is_file()
    with table.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow([f.name for f in fields(Row)])
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in astuple(row)])


if __name__ == "__main__":
    main()
