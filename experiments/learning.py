"""Measure learning over seeds: run ``dynapilco train`` for each seed, count every one, print and write a table.

    python experiments/learning.py --config experiments/quickstart.toml --seeds 0 10 --jobs 2 --name quickstart

Resumable: a finished seed is kept, an interrupted one goes on from its last finished trial, a failed one is counted as
a failure (and tried again at the next call). Options after ``--`` go to ``dynapilco train``:

    python experiments/learning.py --config experiments/quickstart.toml --name mc_dropout -- --inference mc_dropout

It writes NAME.csv (a row for each seed), NAME_trials.csv (a row for each trial) and NAME.txt (the report). With
``--partial`` only the seeds that are finished are reported, and the report says so.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import fisher_exact

from dynapilco.core.intervals import wilson_interval

COLUMNS = (
    "seed",
    "solved",
    "fresh_episode_successes",
    "first_success_trial",
    "env_seconds_to_success",
    "delivered_trial",
    "successful_trials",
    "coverage_95_one_step",
    "coverage_95_horizon",
    "nan_rollouts",
    "wall_seconds",
)

TRIAL_COLUMNS = (
    "trial",
    "return",
    "predicted_return",
    "success",
    "model_nll",
    "coverage_95_one_step",
    "coverage_95_horizon",
    "nan_rollouts",
    "seconds_model",
    "seconds_policy",
    "seconds_env",
)

MC_PILCO = (0, 7, 31, 39, 47)
"""Successes of 50 seeds at policy trials 1 to 5 on MC-PILCO's cart-pole with sensor noise, recalled from the paper."""
MC_PILCO_SEEDS = 50
MC_PILCO_ENV = "dynapilco/CartPoleSwingUp-v0"

RESAMPLES = 10_000


@dataclass(frozen=True)
class SeedResult:
    """One seed: its row of the table, success by trial (None for exploration), and the rows of progress.csv."""

    row: dict[str, object]
    successes: list[bool | None]
    trials: list[dict[str, str]]


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="configuration of a single run")
    parser.add_argument("--name", required=True, help="name of the table, and of the folder below --runs")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 10), metavar=("FIRST", "END"))
    parser.add_argument("--jobs", type=int, default=2, help="seeds that run at the same time, one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"))
    parser.add_argument("--tables", type=Path, default=Path("docs/results"))
    parser.add_argument("--partial", action="store_true", help="report the finished seeds alone")
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    parser.add_argument("options", nargs="*", help="after --: options of dynapilco train")
    arguments = parser.parse_args()
    seeds = range(*arguments.seeds)
    folder = arguments.runs / arguments.name
    if not arguments.report:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda seed: run_seed(arguments.config, seed, folder, arguments.options), seeds))
    if arguments.partial:
        seeds = [seed for seed in seeds if (folder / f"seed-{seed}" / "summary.json").is_file()]
    results = [read_seed(folder / f"seed-{seed}", seed) for seed in seeds]
    arguments.tables.mkdir(parents=True, exist_ok=True)
    write_csv(arguments.tables / f"{arguments.name}.csv", results)
    write_trials(arguments.tables / f"{arguments.name}_trials.csv", results)
    text = report(results)
    if arguments.partial:
        text = f"PARTIAL: {len(results)} of {len(range(*arguments.seeds))} seeds\n{text}"
    (arguments.tables / f"{arguments.name}.txt").write_text(text + "\n")
    print(text)


def run_seed(config: Path, seed: int, folder: Path, options: Sequence[str]) -> None:
    """Train one seed, or go on with it; its output is kept beside the run."""
    out, log = folder / f"seed-{seed}", folder / f"seed-{seed}.log"
    if (out / "summary.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dynapilco", "train"]
    if (out / "config.toml").is_file():
        command += ["--resume", str(out)]
    else:
        command += ["--config", str(config), "--seed", str(seed), "--out", str(out), "--device", "cpu", *options]
    with log.open("a") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    print(f"seed {seed}: {'done' if code == 0 else f'failed with exit code {code}, see {log}'}", flush=True)


def read_seed(run: Path, seed: int) -> SeedResult:
    """Row of one seed; a run without a summary counts as unsolved."""
    path = run / "summary.json"
    if not path.is_file():
        return SeedResult({"seed": seed, "solved": False}, [], [])
    summary = json.loads(path.read_text())
    with (run / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    successes = [None if row["seconds_model"] == "" else row["success"] == "true" for row in rows]
    wins = round(summary["success_rate"] * len(summary["evaluation_returns"]))
    row = {
        **{name: summary.get(name) for name in COLUMNS if name in summary},
        "seed": seed,
        "env_id": summary.get("env_id"),
        "fresh_episode_successes": f"{wins}/{len(summary['evaluation_returns'])}",
        "successful_trials": " ".join(str(i) for i, s in enumerate(successes) if s),
        "coverage_95_one_step": _late_mean(rows, "coverage_95_one_step"),
        "coverage_95_horizon": _late_mean(rows, "coverage_95_horizon"),
        "wall_seconds": round(summary["wall_seconds"], 1),
    }
    return SeedResult(row, successes, rows)


def _late_mean(rows: Sequence[dict[str, str]], column: str) -> float:
    """Mean over the policy trials of a run."""
    return round(float(np.mean([float(row[column]) for row in rows if row[column] != ""])), 3)


def write_csv(path: Path, results: Sequence[SeedResult]) -> None:
    """One line for each seed."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in result.row.items()} for result in results)


def write_trials(path: Path, results: Sequence[SeedResult]) -> None:
    """One line for each trial of each seed."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("seed", *TRIAL_COLUMNS), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({"seed": result.row["seed"], **row} for result in results for row in result.trials)


def report(results: Sequence[SeedResult]) -> str:
    """The figures in words, each with the number of seeds and a 95 % interval."""
    n = len(results)
    solved = sum(bool(result.row["solved"]) for result in results)
    ever = [result.row["first_success_trial"] for result in results if result.row.get("first_success_trial")]
    seconds = [float(str(result.row["wall_seconds"])) for result in results if "wall_seconds" in result.row]
    unfinished = n - len(seconds)
    first = _median([int(str(trial)) for trial in ever], n)
    lines = [
        f"solved (at least 90 % of 20 fresh episodes of the delivered policy): {_rate(solved, n)}",
        f"a successful policy trial at all: {_rate(len(ever), n)}",
        f"median first success over all seeds, never = infinity: policy trial {first}",
        "success at each policy trial, counted alone, with Wilson 95 % intervals:",
        *(f"  {line}" for line in success_lines(results)),
        f"wall-clock seconds a seed: median {np.median(seconds):.0f}, largest {max(seconds):.0f}" if seconds else "",
        "coverage of 95 % intervals on unseen trials, mean over seeds and policy trials (bootstrap 95 % by seed):",
        *(f"  {name}: {coverage_line(results, f'coverage_95_{name}')}" for name in ("one_step", "horizon")),
        f"seeds that did not finish (counted as failures): {unfinished}",
    ]
    return "\n".join(filter(None, lines))


def by_trial(results: Sequence[SeedResult]) -> list[str]:
    """``k:successes/n`` for each trial with a policy; seeds without that trial count as failures."""
    trials = range(1, max((len(result.successes) for result in results), default=0))
    wins = [sum(bool(r.successes[k]) for r in results if k < len(r.successes)) for k in trials]
    return [f"{k}:{win}/{len(results)}" for k, win in zip(trials, wins, strict=True)]


def success_lines(results: Sequence[SeedResult]) -> list[str]:
    """A line for each policy trial; beside MC-PILCO's counts where the task is its cart-pole."""
    n, lines = len(results), []
    compared = bool(results) and all(r.row.get("env_id", MC_PILCO_ENV) == MC_PILCO_ENV for r in results)
    for k, text in enumerate(by_trial(results), 1):
        wins = int(text.partition(":")[2].partition("/")[0])
        low, high = wilson_interval(wins, n)
        line = f"trial {k}: {wins}/{n} ({low:.0%} to {high:.0%})"
        if compared and k <= len(MC_PILCO):
            table = [[wins, n - wins], [MC_PILCO[k - 1], MC_PILCO_SEEDS - MC_PILCO[k - 1]]]
            p = float(fisher_exact(table)[1])  # pyright: ignore[reportArgumentType, reportCallIssue]
            line += f"; MC-PILCO (recalled) {MC_PILCO[k - 1]}/{MC_PILCO_SEEDS}, Fisher's exact test p = {p:.2g}"
        lines.append(line)
    return lines


def coverage_line(results: Sequence[SeedResult], column: str) -> str:
    """Mean over policy trials and seeds with a bootstrap interval over seeds, then the mean at each policy trial."""
    table = [[float(row[column]) for row in result.trials if row[column] != ""] for result in results if result.trials]
    if not table:
        return "none"
    sums, counts = np.array([sum(row) for row in table]), np.array([len(row) for row in table])
    index = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
    low, high = np.quantile(sums[index].sum(1) / counts[index].sum(1), [0.025, 0.975])
    longest = max(len(row) for row in table)
    means = [np.mean([row[k] for row in table if len(row) > k]) for k in range(longest)]
    by_trial = " ".join(f"{mean:.2f}" for mean in means)
    return f"{sums.sum() / counts.sum():.3f} ({low:.3f} to {high:.3f}); by policy trial {by_trial}"


def _rate(wins: int, n: int) -> str:
    low, high = wilson_interval(wins, n)
    return f"{wins} of {n} seeds (Wilson 95 % interval {low:.0%} to {high:.0%})"


def _median(trials: Sequence[int], n: int) -> str:
    value = float(np.median([*trials, *[np.inf] * (n - len(trials))]))
    return f"{value:g}"


if __name__ == "__main__":
    main()
