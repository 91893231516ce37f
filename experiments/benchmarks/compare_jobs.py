"""How much faster a comparison is with two jobs at a time than with one.

    python experiments/benchmarks/compare_jobs.py                  # about a quarter of an hour on a quiet machine
    python experiments/benchmarks/compare_jobs.py --small          # a minute: does it work at all

The same comparison (default method, default search, several seeds) is run with --jobs 1 and with --jobs N in turn,
--repeats times, and the ratio of the wall-clock times is printed for each pair: everything is in it, from the start of
the command to its closing table. What else runs on the machine decides it: the load before each run is printed, and the
goal, 1.8 for two jobs on two cores, means something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

QUIET_LOAD = 0.3
GOAL_PER_JOB = 0.9
SMALL = (
    *("--search.steps", "20", "--search.screening-steps", "5", "--search.fresh-starts", "1"),
    *("--rollout.total-particles", "8"),
)


def main() -> None:
    """Time both in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-id", default="dynapilco/PendulumSwingUp-v0")
    parser.add_argument("--inference", default="random_features")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2, help="compared with one job")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="two seeds, a tiny search, one repeat")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.seeds, arguments.repeats, arguments.trials = 2, 1, 3
    words = ["--env-id", arguments.env_id, "--inference", arguments.inference, "--seeds", str(arguments.seeds)]
    words += ["--trials", str(arguments.trials), *(SMALL if arguments.small else ())]
    print(f"{os.cpu_count()} cores; {arguments.seeds} jobs of {arguments.trials} trials", flush=True)
    ratios, noisy = [], False
    for _ in range(arguments.repeats):
        seconds = {}
        for jobs in (1, arguments.jobs):
            load = os.getloadavg()[0]
            noisy = noisy or (not ratios and jobs == 1 and load > QUIET_LOAD)
            seconds[jobs] = timed(words, jobs)
            print(f"--jobs {jobs}: {seconds[jobs]:.1f} s (load average before: {load:.2f})", flush=True)
        ratios.append(seconds[1] / seconds[arguments.jobs])
        print(f"ratio {ratios[-1]:.2f}", flush=True)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} of {len(ratios)}"
    print(f"median ratio {np.median(ratios):.2f} ({spread}), goal {GOAL_PER_JOB * arguments.jobs:.2f}")
    if noisy:
        print("the machine was not quiet when this began: the ratio says nothing about --jobs")


def timed(words: list[str], jobs: int) -> float:
    """Wall-clock seconds of a whole comparison, in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="compare-jobs-"))
    try:
        command = [
            sys.executable,
            "-m",
            "dynapilco",
            "compare",
            *words,
            "--jobs",
            str(jobs),
            "--out",
            str(folder / "out"),
        ]
        clock = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - clock
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
