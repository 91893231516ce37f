"""Our steps beside the peers', one thread, in one run: repetitions of the two take turns.

    python experiments/benchmarks/peers/make_environments.py
    python experiments/benchmarks/peers/compare.py --output peers.csv [--only HMC BBB] [--rounds 9] [--core 0]

Every runner is a process of its own that waits for orders, so only one works at a time. A round is a repetition of
ours and one of the peer's, in alternating order; a ratio is taken within a round, then the median over the rounds is
printed with the smallest and the largest. A bar is met when the median ratio of wall *and* of CPU time meets it.
Writes a CSV file, and a JSON file with every repetition beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from client import Worker
from make_environments import interpreter
from table import CLOCKS, COMPARISONS, Comparison, header, line, ratios, write
from worker import calibrated

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".peers"), help="where the peers' environments are")
    parser.add_argument("--output", type=Path, help="CSV file to write; a JSON file goes beside it")
    parser.add_argument("--only", nargs="+", help="lines whose name starts with one of these")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one repetition, about")
    parser.add_argument("--core", type=int, help="CPU core to bind all workers to (Linux)")
    arguments = parser.parse_args()
    chosen = [c for c in COMPARISONS if not arguments.only or c.name.startswith(tuple(arguments.only))]
    if not chosen:
        parser.error(f"--only {arguments.only}: expected starts of {sorted({c.name for c in COMPARISONS})}")
    with ExitStack() as stack:
        workers = start(chosen, arguments.folder, arguments.core, stack)
        print(header(), flush=True)
        results = []
        for comparison in chosen:
            results.append(measure(comparison, workers, arguments.rounds, arguments.seconds))
            print(line(results[-1]), flush=True)
    if arguments.output:
        write(results, arguments.output, arguments.rounds, arguments.seconds)


def start(chosen: Sequence[Comparison], folder: Path, core: int | None, stack: ExitStack) -> dict[str, Worker]:
    """Start our worker and one for each peer that is needed."""
    workers = {"ours": stack.enter_context(Worker("ours", Path(sys.executable), HERE / "ours.py", core))}
    for name in sorted({comparison.peer for comparison in chosen} - {"ours"}):
        python = interpreter(folder, name)
        if not python.exists():
            sys.exit(f"--folder {folder}: no environment {name!r} there; make_environments.py makes it")
        workers[name] = stack.enter_context(Worker(name, python, HERE / f"run_{name}.py", core))
    return workers


def measure(comparison: Comparison, workers: dict[str, Worker], rounds: int, seconds: float) -> dict[str, Any]:
    """Warm both up, then take turns."""
    sides = {"ours": (workers["ours"], comparison.ours), "peer": (workers[comparison.peer], comparison.row)}
    result: dict[str, Any] = {"comparison": comparison, "steps": {}, "missing": {}}
    for side, (worker, row) in sides.items():
        answer = worker.run(row, 1)
        if "missing" in answer:
            result["missing"][side] = answer["missing"]
        else:
            result["steps"][side] = calibrated(lambda n, w=worker, r=row: w.run(r, n)["wall"], seconds)
    result["ms"] = {side: {clock: [] for clock in CLOCKS} for side in result["steps"]}
    for index in range(rounds):
        for side in list(result["steps"])[:: 1 if index % 2 == 0 else -1]:
            worker, row = sides[side]
            answer = worker.run(row, result["steps"][side])
            result["figure " + side] = answer["figure"]
            for clock in CLOCKS:
                result["ms"][side][clock].append(1e3 * answer[clock] / answer["steps"])
    result["ratios"] = ratios(comparison, result["ms"])
    return result


if __name__ == "__main__":
    main()
