"""What every runner is: a table of workloads, timed alone (one JSON line each) or at the word of ``compare.py``.

A workload is a function that builds and warms up, and returns ``run(steps)``, which does so many steps and, where it
has one, returns a figure to be told (the last loss, an acceptance rate), which must be finite. As a worker the process
reads ``run NAME STEPS`` from standard input and answers with one JSON line: wall and CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

Run = Callable[[int], float | None]
Workloads = Mapping[str, Callable[[], Run]]


def main(workloads: Workloads, doc: str | None) -> None:
    """Parse the command line of a runner and do what it says."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", action="store_true", help="take orders from standard input")
    parser.add_argument("--workloads", nargs="+", choices=list(workloads), default=list(workloads))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one repetition, about")
    arguments = parser.parse_args()
    if arguments.worker:
        serve(workloads)
        return
    for name in arguments.workloads:
        print(json.dumps(alone(name, workloads[name](), arguments.repeats, arguments.seconds)), flush=True)


def serve(workloads: Workloads) -> None:
    """Answer orders until standard input ends. What libraries print goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    ready: dict[str, Run] = {}
    _answer(answers, {"workloads": list(workloads), "pid": os.getpid()})
    for line in sys.stdin:
        order, *words = line.split()
        if order != "run" or len(words) != 2 or words[0] not in workloads:
            raise ValueError(f"order {line!r}: expected 'run NAME STEPS' with a name of {list(workloads)}")
        name, steps = words[0], int(words[1])
        if name not in ready:
            try:
                ready[name] = workloads[name]()
            except NotImplementedError as error:
                _answer(answers, {"workload": name, "missing": str(error)})
                continue
        _answer(answers, {"workload": name, **timed(ready[name], steps)})


def alone(name: str, run: Run, repeats: int, seconds: float) -> dict[str, Any]:
    """Median, smallest and largest milliseconds a step over ``repeats`` repetitions of about ``seconds`` each."""
    steps = calibrated(lambda count: timed(run, count)["wall"], seconds)
    results = [timed(run, steps) for _ in range(repeats)]
    summary: dict[str, Any] = {"workload": name, "steps": steps, "repeats": repeats}
    for clock in ("wall", "cpu"):
        times = [1e3 * result[clock] / steps for result in results]
        summary[f"{clock}_ms"] = {"median": statistics.median(times), "min": min(times), "max": max(times)}
    return summary if results[-1]["figure"] is None else {**summary, "figure": results[-1]["figure"]}


def timed(run: Run, steps: int) -> dict[str, Any]:
    """Wall and CPU seconds of ``steps`` steps; CPU of all the threads of the process."""
    cpu, wall = time.process_time(), time.perf_counter()
    figure = run(steps)
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    if figure is not None and not math.isfinite(figure):
        raise FloatingPointError(f"the figure after {steps} steps is {figure}: a speed of NaNs says nothing")
    return {"steps": steps, **spent, "figure": figure}


def calibrated(wall: Callable[[int], float], seconds: float) -> int:
    """A number of steps that takes about ``seconds``, found by doubling; also the warm-up."""
    steps = 1
    wall(steps)
    while (spent := wall(steps)) < seconds / 2:
        steps = max(steps + 1, min(2 * steps, round(steps * seconds / max(spent, 1e-9))))
    return max(1, round(steps * seconds / spent))


def _answer(stream: TextIO, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=stream, flush=True)
