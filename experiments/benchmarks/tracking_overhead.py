"""Time whole quick-start runs with and without tracking, in pairs: what do W&B (offline) and TensorBoard cost?

    python experiments/benchmarks/tracking_overhead.py [--pairs 5] [--csv FILE] [-- OPTIONS OF dynapilco train]

A pair is two runs of the same seed, one of them with ``--track --tensorboard``, in turn one and the other first, each
in a process of its own. Both draw the figures and record the video, which are made anyway. Times are of the whole
process, from its start to its end: imports, opening and closing the W&B run included. The processor time counts the
process and the children that it waited for. A pair whose tables differ in anything but times is an error: tracking must
not change a run.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dynapilco.cli.statistics import mean_interval
from dynapilco.tracking.sink import TIME_COLUMNS

ROOT = Path(__file__).parents[2]
TRAIN = "import sys; from dynapilco.cli.main import main; sys.exit(main())"
TRACKED = ("--track", "--wandb-mode", "offline", "--tensorboard")
GOAL = 0.05


@dataclass(frozen=True)
class Pair:
    """Seconds of one pair: wall-clock and processor, without and with tracking."""

    pair: int
    tracked_first: bool
    wall_plain: float
    wall_tracked: float
    cpu_plain: float
    cpu_tracked: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--config", type=Path, default=ROOT / "experiments" / "quickstart.toml")
    parser.add_argument("--csv", type=Path, help="write a row for each pair")
    parser.add_argument("options", nargs="*", help="after --: options of dynapilco train")
    args = parser.parse_args()
    words = ["train", "--config", str(args.config), *args.options]
    pairs = []
    for number in range(args.pairs):
        pairs.append(measure(number, words))
        print(line(pairs[-1]), flush=True)
    if args.csv is not None:
        write(args.csv, pairs)
    print(report(pairs))


def measure(number: int, words: Sequence[str]) -> Pair:
    """One pair of runs, in folders that are removed afterwards."""
    first = number % 2 == 1
    with tempfile.TemporaryDirectory() as folder:
        place, times = Path(folder), {}
        for tracked in (first, not first):
            out = place / ("tracked" if tracked else "plain")
            times[tracked] = timed([*words, "--out", str(out), *(TRACKED if tracked else ())], place)
        if table(place / "plain") != table(place / "tracked"):
            raise SystemExit(f"pair {number}: the tracked run is another run")
    return Pair(number, first, times[False][0], times[True][0], times[False][1], times[True][1])


def timed(words: Sequence[str], place: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of one command; what W&B keeps outside the run goes to ``place``."""
    environment = os.environ | {"WANDB_DATA_DIR": str(place), "WANDB_CACHE_DIR": str(place)}
    before, clock = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", TRAIN, *words], env=environment, check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - clock, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def table(run_dir: Path) -> list[dict[str, str]]:
    """``progress.csv`` without its times."""
    with (run_dir / "progress.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in csv.DictReader(file)]


def line(pair: Pair) -> str:
    """One pair in words."""
    return (
        f"pair {pair.pair}: {pair.wall_plain:.1f} s without, {pair.wall_tracked:.1f} s with "
        f"({100 * (pair.wall_tracked / pair.wall_plain - 1):+.1f} %); processor {pair.cpu_plain:.1f} s and "
        f"{pair.cpu_tracked:.1f} s ({100 * (pair.cpu_tracked / pair.cpu_plain - 1):+.1f} %)"
    )


def report(pairs: Sequence[Pair]) -> str:
    """The overhead over all pairs, beside the goal."""
    said = [f"W&B offline and TensorBoard, {len(pairs)} pairs:"]
    for kind, what in (("wall", "wall-clock"), ("cpu", "processor time")):
        ratios = [getattr(p, f"{kind}_tracked") / getattr(p, f"{kind}_plain") - 1 for p in pairs]
        extra = [getattr(p, f"{kind}_tracked") - getattr(p, f"{kind}_plain") for p in pairs]
        mean, low, high = mean_interval(ratios)
        said.append(
            f"  {what}: median {100 * statistics.median(ratios):+.1f} %, mean {100 * mean:+.1f} % (95 % interval "
            f"{100 * low:+.1f} to {100 * high:+.1f} %), median {statistics.median(extra):+.2f} s"
        )
    return "\n".join([*said, f"  goal: at most {100 * GOAL:+.0f} % of the wall-clock"])


def write(path: Path, pairs: Sequence[Pair]) -> None:
    """A row for each pair."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(pairs[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(pair) for pair in pairs)


if __name__ == "__main__":
    main()
