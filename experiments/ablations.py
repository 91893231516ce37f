"""What decides data efficiency: change one thing of the default at a time, on the same seeds, and count.

    python experiments/ablations.py --seeds 1000 1020 --jobs 2
    python experiments/ablations.py --report                   # run nothing, write the table of what is there

Resumable (see learning.py). Seeds are those used for tuning, not those of the reported results. Each setting trains
``experiments/quickstart.toml`` for one exploration trial and three policy trials.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from learning import SeedResult, read_seed, run_seed

from dynapilco.core.intervals import wilson_interval

TRIALS = 3
STEPS = str(60 * (1 + TRIALS))
COMMON = ("--total-timesteps", STEPS, "--no-video")

SETTINGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "default": ("the default settings", ()),
    "ensemble": ("anchored ensemble of 2x64, no relevances", ("--inference", "ensemble")),
    "no evidence": (
        "random features without evidence: all inputs equally relevant",
        ("--inference-kwargs.no-evidence",),
    ),
    "one group": ("one set of relevances for all outputs", ("--inference-kwargs.groups", "1")),
    "10 members": ("10 functions of 16 particles instead of 40 of 4", ("--inference-kwargs.members", "10")),
    "100 units": ("100 hidden units instead of 300", ("--dynamics.hidden", "100")),
    "velocity": ("velocities alone: positions by the trapezoidal rule", ("--dynamics.targets", "velocity")),
    "delta": ("changes of all columns instead of integrated positions", ("--dynamics.targets", "delta")),
    "floor 0.001": (
        "smallest noise 0.001 instead of 0.005 of the targets' spread",
        ("--dynamics.noise-floor", "0.001"),
    ),
    "sinusoid": ("weaker excitation: sinusoids of random power", ("--exploration.kind", "sinusoid")),
    "random": ("excitation by white noise", ("--exploration.kind", "random")),
    "moment matching": ("Gaussian particles after each step", ("--rollout.propagation", "moment_matching")),
    "no damping": (
        "gradients pass back unchanged",
        ("--search.credit-seconds", "0", "--search.final-credit-seconds", "0", "--search.adjoint-limit", "0"),
    ),
    "one start": ("one fresh candidate instead of six", ("--search.fresh-starts", "1")),
    "half the steps": (
        "140 gradient steps, 45 of screening",
        ("--search.steps", "140", "--search.screening-steps", "45"),
    ),
    "twice the steps": ("560 gradient steps", ("--search.steps", "560")),
    "no action noise": ("no smoothing by action noise", ("--search.action-noise", "0")),
    "common random numbers": ("the same random numbers for 50 steps", ("--search.refresh-every", "50")),
}


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1000, 1020), metavar=("FIRST", "END"))
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS), metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2, help="seeds that run at the same time, one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--table", type=Path, default=Path("docs/results/ablations.md"))
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    arguments = parser.parse_args()
    seeds = range(*arguments.seeds)
    config = Path(__file__).parent / "quickstart.toml"
    if not arguments.report:
        for name in arguments.settings:
            options = [*COMMON, *SETTINGS[name][1]]
            folder = arguments.runs / folder_name(name)
            with ThreadPoolExecutor(arguments.jobs) as pool:
                list(pool.map(lambda seed, f=folder, o=options: run_seed(config, seed, f, o), seeds))
            print(line(name, finished(folder, seeds)), flush=True)
            arguments.table.write_text(table(arguments.runs, seeds))
    text = table(arguments.runs, seeds)
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    arguments.table.write_text(text)
    print(text)


def folder_name(setting: str) -> str:
    """A setting as the name of its folder."""
    return setting.replace(" ", "-")


def finished(folder: Path, seeds: range) -> list[SeedResult]:
    """Results of the seeds that were started; one that did not finish counts as a failure."""
    return [read_seed(folder / f"seed-{seed}", seed) for seed in seeds if (folder / f"seed-{seed}.log").is_file()]


def line(name: str, results: list[SeedResult]) -> str:
    """A row of the table: successes with Wilson intervals, coverage, seconds."""
    n, cells = len(results), []
    for k in range(1, TRIALS + 1):
        wins = sum(bool(r.successes[k]) for r in results if k < len(r.successes))
        low, high = wilson_interval(wins, n)
        cells.append(f"{wins}/{n} ({low:.0%}-{high:.0%})")
    for column in ("coverage_95_one_step", "coverage_95_horizon"):
        cells.append(f"{mean(results, column):.2f}")
    cells.append(f"{mean(results, 'seconds_model') + mean(results, 'seconds_policy'):.1f}")
    return f"| {name} | {SETTINGS[name][0]} | {' | '.join(cells)} |"


def mean(results: list[SeedResult], column: str) -> float:
    """Mean of a column of progress.csv over seeds and policy trials."""
    values = [
        float(row[column]) for r in results for row in r.trials if row["predicted_return"] != "" and row[column] != ""
    ]
    return float(np.mean(values)) if values else float("nan")


def table(runs: Path, seeds: range) -> str:
    """The table of all settings that have results."""
    head = [
        "# Ablations",
        "",
        f"Written by `experiments/ablations.py`: `CartPoleSwingUp-v0`, tuning seeds {seeds.start} to {seeds.stop - 1};",
        "successes of policy trials 1, 2, 3, counted alone, with Wilson 95 % intervals; coverage of 95 % intervals on",
        "unseen trials, one step ahead and over the whole trial; seconds of model and policy for a policy trial.",
        "",
        "| setting | what changes | trial 1 | trial 2 | trial 3 | one step | whole trial | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = [(name, finished(runs / folder_name(name), seeds)) for name in SETTINGS]
    return "\n".join([*head, *(line(name, results) for name, results in found if results), ""])


if __name__ == "__main__":
    main()
