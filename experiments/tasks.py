"""Measure Gymnasium's tasks over seeds: ``dynapilco train --env-id ID`` and nothing else, every seed counted.

    python experiments/tasks.py --jobs 2                     # all tasks, seeds 0-4
    python experiments/tasks.py --only CartPole-v1 --seeds 0 5
    python experiments/tasks.py --report                     # run nothing, write the table of what is there

Resumable: a finished seed is kept, an interrupted one goes on from its last finished trial, one that failed is counted
as failed (and tried again at the next call). It writes tasks.csv (a row for each task and seed) and tasks.md.
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

from dynapilco.cli.statistics import wilson_interval


@dataclass(frozen=True)
class Goal:
    """A task, the environment steps that a seed gets, and the mean return of 20 fresh episodes that is aimed at."""

    env_id: str
    steps: int
    allowed: int
    """Steps within which ``least`` is aimed at; ``steps`` may be fewer: trials are whole, so a run may go past it."""
    least: float | None = None


GOALS = (
    Goal("Pendulum-v1", 1_000, 2_000, -200.0),
    Goal("MountainCarContinuous-v0", 1_500, 3_000, 90.0),
    Goal("InvertedPendulum-v5", 1_500, 3_000, 1_000.0),
    Goal("CartPole-v1", 1_000, 1_500, 500.0),
    Goal("Acrobot-v1", 1_000, 1_000),
    Goal("InvertedDoublePendulum-v5", 1_500, 1_500),
    Goal("Reacher-v5", 500, 5_000),
)
COLUMNS = ("env_id", "seed", "env_steps", "controller", "mean_return", "worst_return", "first_steps", "wall_seconds")


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[goal.env_id for goal in GOALS], help="some of the tasks")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 5), metavar=("FIRST", "END"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/tasks"))
    parser.add_argument("--tables", type=Path, default=Path("docs/results"))
    parser.add_argument("--report", action="store_true", help="run nothing, report what is there")
    arguments = parser.parse_args()
    goals = [goal for goal in GOALS if not arguments.only or goal.env_id in arguments.only]
    work = [(goal, seed) for seed in range(*arguments.seeds) for goal in goals]
    if not arguments.report:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda pair: run(*pair, arguments.runs), work))
    found = {goal: [read(goal, seed, arguments.runs) for seed in range(*arguments.seeds)] for goal in goals}
    arguments.tables.mkdir(parents=True, exist_ok=True)
    with (arguments.tables / "tasks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for rows in found.values() for row in rows)
    text = table(found)
    (arguments.tables / "tasks.md").write_text(text)
    print(text)


def folder(goal: Goal, seed: int, runs: Path) -> Path:
    """Run directory of a task and a seed."""
    return runs / goal.env_id / f"seed-{seed}"


def run(goal: Goal, seed: int, runs: Path) -> None:
    """Train one seed, or go on with it; its output is kept beside the run."""
    out = folder(goal, seed, runs)
    if (out / "summary.json").is_file():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dynapilco", "train"]
    if (out / "config.toml").is_file():
        command += ["--resume", str(out), "--no-video"]
    else:
        settings = {"env-id": goal.env_id, "total-timesteps": goal.steps, "seed": seed, "device": "cpu", "out": out}
        command += [word for name, value in settings.items() for word in (f"--{name}", str(value))] + ["--no-video"]
    with out.with_suffix(".log").open("a") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    said = "done" if code == 0 else f"failed with exit code {code}, see {out.with_suffix('.log')}"
    print(f"{goal.env_id} seed {seed}: {said}", flush=True)


def read(goal: Goal, seed: int, runs: Path) -> dict[str, object]:
    """A row of the table; a run without a summary has no numbers, and counts as one that missed."""
    out = folder(goal, seed, runs)
    row: dict[str, object] = dict.fromkeys(COLUMNS, "") | {"env_id": goal.env_id, "seed": seed}
    if not (out / "summary.json").is_file():
        return row
    summary = json.loads((out / "summary.json").read_text())
    fields = json.loads((out / "checkpoint" / "state.json").read_text())
    with (out / "progress.csv").open() as file:
        trials = list(csv.DictReader(file))
    reached = [t["env_steps"] for t in trials if goal.least is not None and float(t["return"]) >= goal.least]
    returns = summary["evaluation_returns"]
    return row | {
        "env_steps": int(trials[-1]["env_steps"]),
        "controller": fields.get("controller") or fields["config"]["controller"],
        "mean_return": round(float(np.mean(returns)), 2),
        "worst_return": round(float(np.min(returns)), 2),
        "first_steps": reached[0] if reached else "",
        "wall_seconds": round(summary["wall_seconds"], 1),
    }


def table(found: dict[Goal, Sequence[dict[str, object]]]) -> str:
    """The table of tasks, in Markdown."""
    lines = [
        "| task | controller | steps | seeds | mean of 20 fresh episodes, each seed | median | aimed at | reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for goal, rows in found.items():
        done = [row for row in rows if row["mean_return"] != ""]
        means = [float(str(row["mean_return"])) for row in done]
        ways = ", ".join(sorted({str(row["controller"]) for row in done})) or "-"
        shown = ", ".join(f"{value:.4g}" for value in means) + (", failed" * (len(rows) - len(done)))
        median = f"{np.median(means + [-np.inf] * (len(rows) - len(done))):.4g}"
        aim, reached = "measured", "-"
        if goal.least is not None:
            wins = sum(value >= goal.least for value in means)
            low, high = wilson_interval(wins, len(rows))
            aim = f"{goal.least:g} within {goal.allowed:,}"
            reached = f"**{wins} of {len(rows)}** ({low:.0%}-{high:.0%})"
        lines.append(
            f"| {goal.env_id} | {ways} | {goal.steps:,} | {len(rows)} | {shown} | {median} | {aim} | {reached} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
