"""Compare inference methods in the loop: train every method over seeds, count every one, write one table.

    python experiments/methods.py --seeds 0 5 --jobs 2
    python experiments/methods.py --methods ensemble bbb --seeds 0 5

Each run is ``dynapilco train --config experiments/methods.toml --inference METHOD --seed SEED``, with the method's own
defaults. Resumable as ``experiments/learning.py`` is: a finished seed is kept, an interrupted one goes on. The table is
written again after every method, also while others are missing.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from learning import SeedResult, by_trial, read_seed, run_seed, write_csv

from dynapilco.core.intervals import wilson_interval
from dynapilco.inference import METHODS

CONFIG = Path(__file__).with_name("methods.toml")
HEADER = "| method | seeds | solved (Wilson 95 %) | median first success | success at policy trials 1, 2, ... | "
HEADER += "one-step coverage, trial by trial | all trials | whole-trial coverage | seconds a seed |"
NOTE = """Seeds {first} to {last}, all counted; *solved* means that at least 90 % of 20 fresh episodes of the
delivered policy succeed; the median first success counts seeds that never succeed as infinity; coverage is that of 95 %
intervals on the newest, unseen trial (mean over seeds). Untuned defaults of each method, one network shape and one
search for all. Each seed by itself: `{folder}/METHOD.csv`. Seconds were taken with {jobs} runs side by side and other
work on the machine: read them as rough. Few seeds: where intervals overlap, no difference is shown.
"""


@dataclass(frozen=True)
class Calibration:
    """Mean one-step coverage over seeds, trial by trial."""

    by_trial: list[float]

    @classmethod
    def of(cls, runs: Sequence[Path]) -> Calibration:
        """Read the runs that have finished."""
        found: dict[int, list[float]] = {}
        for run in runs:
            if not (run / "summary.json").is_file():
                continue
            with (run / "progress.csv").open() as file:
                for row in csv.DictReader(file):
                    if row["coverage_95_one_step"]:
                        found.setdefault(int(row["trial"]), []).append(float(row["coverage_95_one_step"]))
        return cls([float(np.mean(found[trial])) for trial in sorted(found)])


def main() -> None:
    """Run what is missing, method by method, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="default: all that are registered")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 5), metavar=("FIRST", "END"))
    parser.add_argument("--jobs", type=int, default=2, help="seeds that run at the same time, one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"))
    parser.add_argument("--tables", type=Path, default=Path("docs/results/methods"))
    parser.add_argument("--report", action="store_true", help="run nothing, write the table of what is there")
    arguments = parser.parse_args()
    names = [METHODS.canonical(name) for name in arguments.methods]
    seeds = range(*arguments.seeds)
    arguments.tables.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not arguments.report:
            train(name, seeds, arguments.runs / name, arguments.jobs)
        write_table(arguments.runs, arguments.tables, seeds, arguments.jobs)


def train(name: str, seeds: Sequence[int], folder: Path, jobs: int) -> None:
    """All seeds of a method."""
    print(name, flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda seed: run_seed(CONFIG, seed, folder, ["--inference", name, "--no-video"]), seeds))


def write_table(runs: Path, tables: Path, seeds: Sequence[int], jobs: int) -> None:
    """The table of all methods that have a run, and a CSV of seeds for each."""
    lines = [HEADER, "|" + "---|" * 9]
    for name in METHODS:
        folder = runs / name
        if not folder.is_dir():
            continue
        results = [read_seed(folder / f"seed-{seed}", seed) for seed in seeds]
        write_csv(tables / f"{name}.csv", results)
        lines.append(line(name, results, Calibration.of([folder / f"seed-{seed}" for seed in seeds])))
    note = NOTE.format(first=seeds[0], last=seeds[-1], folder=tables.name, jobs=jobs)
    title = "# Inference methods in the loop: `CartPoleSwingUp-v0`\n\n"
    command = f"    python experiments/methods.py --seeds {seeds[0]} {seeds[-1] + 1}\n\n"
    (tables.parent / "methods.md").write_text(title + command + note + "\n" + "\n".join(lines) + "\n")


def line(name: str, results: Sequence[SeedResult], calibration: Calibration) -> str:
    """One row of the table; a seed without a summary counts as a failure."""
    n = len(results)
    solved = sum(bool(r.row["solved"]) for r in results)
    low, high = wilson_interval(solved, n)
    firsts = [float(str(r.row["first_success_trial"])) for r in results if r.row.get("first_success_trial")]
    median = float(np.median([*firsts, *[np.inf] * (n - len(firsts))]))
    done = [r for r in results if "wall_seconds" in r.row]
    seconds = f"{np.median([float(str(r.row['wall_seconds'])) for r in done]):.0f}" if done else "-"
    horizon = f"{np.mean([float(str(r.row['coverage_95_horizon'])) for r in done]):.2f}" if done else "-"
    steps = [f"{value:.2f}" for value in calibration.by_trial]
    overall = f"{np.mean(calibration.by_trial):.2f}" if steps else "-"
    wins = " ".join(trial.split(":")[1].split("/")[0] for trial in by_trial(results))
    cells = [
        f"`{name}`", str(len(done)) + ("" if len(done) == n else f" of {n}"), f"{solved}/{n} ({low:.0%}-{high:.0%})",
        "never" if np.isinf(median) else f"{median:g}",
        wins, " ".join(steps), overall, horizon, seconds,
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
