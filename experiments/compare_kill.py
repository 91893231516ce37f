"""Kill a comparison at random moments, go on with it, and look whether anything is lost.

    python experiments/compare_kill.py --times 5

One small comparison runs to its end. The same one is then begun again and again, killed with SIGKILL at a random moment
(in turn the command alone, whose jobs have to notice, and every process of it at once), and gone on with by --resume.
Its tables must equal those of the first, clocks and memory aside, and its run directories must hold the same files.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dynapilco.compare import load
from dynapilco.compare.tables import CLOCK_COLUMNS

TASK = "dynapilco/PendulumSwingUp-v0"
SETTINGS = [
    *("--env-id", TASK, "--inference", "random_features", "ensemble", "--seeds", "2", "--trials", "3"),
    *("--baselines", "sac", "--baseline-seeds", "1", "--jobs", "2", "--search.steps", "20"),
    *("--search.screening-steps", "5", "--search.fresh-starts", "1", "--rollout.total-particles", "8"),
]
ALONE_SECONDS = 20.0
"""How long a job may take to notice that its comparison is gone."""


def main() -> None:
    """Run, kill, go on, compare; leave with 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="comparisons to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("runs/compare_kill"))
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    shutil.rmtree(arguments.out, ignore_errors=True)
    whole, began = arguments.out / "whole", time.monotonic()
    finish(start(whole, SETTINGS))
    seconds = time.monotonic() - began
    print(f"uninterrupted: {seconds:.0f} s", flush=True)
    failures = 0
    for i in range(arguments.times):
        moment, everything = random.uniform(0.05, 0.95) * seconds, bool(i % 2)
        said = kill_and_resume(arguments.out / f"killed-{i}", SETTINGS, moment, everything)
        wrong = differences(whole, arguments.out / f"killed-{i}")
        failures += bool(wrong)
        what = "all processes" if everything else "the command"
        verdict = "; ".join(wrong) or "the tables are equal"
        print(f"killed {what} after {moment:.1f} s ({said}), resumed: {verdict}", flush=True)
    print(f"{arguments.times - failures} of {arguments.times} equal the uninterrupted comparison")
    sys.exit(1 if failures else 0)


def start(out: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Begin a comparison in a session of its own."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dynapilco", "compare", *words, "--out", str(out)]
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for an end without a failed run."""
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(map(str, process.args))} ended with {process.returncode}")  # pyright: ignore


def kill_and_resume(out: Path, words: Sequence[str], moment: float, everything: bool) -> str:
    """Begin, kill after ``moment`` seconds, go on; returns what was on disk at the kill."""
    process = start(out, words)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    victims = processes_of(out) if everything else [process.pid]
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    summaries, trials = len(list(out.rglob("summary.json"))), 0
    for path in out.glob("runs/*/*/*/progress.csv"):
        trials += len(path.read_text().splitlines()) - 1
    begun = (out / "compare.json").is_file()
    finish(start(out, ["--resume", "--jobs", "2"] if begun else words))
    wait_until_alone(out)
    return f"{summaries} runs done, {trials} trials on disk"


def processes_of(out: Path) -> list[int]:
    """Processes whose command line names the folder: the comparison and its jobs, and the workers between them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace")
            if str(out) in words or str(out.absolute()) in words:
                found.append(int(path.parent.name))
    children = {int(p.parent.name): _parent(p) for p in Path("/proc").glob("[0-9]*/stat")}
    found += [pid for pid, parent in children.items() if parent in found and pid not in found]
    return [pid for pid in found if pid != os.getpid()]


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def wait_until_alone(out: Path) -> None:
    """No process may be left over."""
    until = time.monotonic() + ALONE_SECONDS
    while left := processes_of(out):
        if time.monotonic() > until:
            raise SystemExit(f"processes {left} still work on {out}")
        time.sleep(0.2)


def differences(whole: Path, other: Path) -> list[str]:
    """What of the tables differs, clocks and memory aside."""
    wrong = []
    for name, a, b in zip(("runs.csv", "trials.csv"), load(whole), load(other), strict=True):
        a, b = (frame.drop(columns=[c for c in CLOCK_COLUMNS if c in frame]) for frame in (a, b))
        try:
            pd.testing.assert_frame_equal(a, b, check_exact=True)
        except AssertionError as error:
            wrong.append(f"{name}: {' '.join(str(error).split())}")
    theirs, ours = (
        {str(p.relative_to(root)) for p in (root / "runs").rglob("*") if p.is_file() and "tensors-" not in p.name}
        for root in (whole, other)
    )
    lost = {name for name in theirs - ours if "/figures/trial-" not in name and "/fans/" not in name}
    return wrong + ([f"files missing: {sorted(lost)}"] if lost else [])


if __name__ == "__main__":
    main()
