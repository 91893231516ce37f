"""The process of one job: ``python -m dynapilco.compare.worker ORDER``, started by the supervisor.

It holds the lock of its job, so that a process left over from a killed comparison and its successor never write to one
run directory at a time, and it ends as soon as its supervisor is gone.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dynapilco.compare.folder import ORPHAN_SECONDS, held
from dynapilco.core.atomic import write_atomically

ALONE = 75
"""Exit code of a job whose supervisor is gone."""


def main(argv: Sequence[str]) -> int:
    """Do the job that the one argument describes, as JSON."""
    told: dict[str, Any] = json.loads(argv[0])
    threading.Thread(target=_watch, args=(told["parent"],), daemon=True).start()
    code = _guarded(told)
    usage = {"pid": os.getpid(), "peak_memory_mb": peak_memory_mb()}
    write_atomically(Path(told["usage"]), json.dumps(usage) + "\n")
    return code


def _guarded(told: Mapping[str, Any]) -> int:
    """The exit code; whatever is raised is written down, whole."""
    refusal = "another process still works on this run: wait for it, or end it"
    try:
        with held(Path(told["lock"]), ORPHAN_SECONDS, refusal):
            return _train_baseline(told) if "baseline" in told else _train(told)
    except Exception:
        text = traceback.format_exc()
        sys.stderr.write(text)
        write_atomically(Path(told["error"]), text)
        return 1


def _train(told: Mapping[str, Any]) -> int:
    """``dynapilco train`` as it is, in this process."""
    sys.argv = ["dynapilco", "train", *train_words(Path(told["run_dir"]), told["config"], told["seed"], told["words"])]
    try:
        runpy.run_module("dynapilco", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def train_words(run_dir: Path, config: str, seed: int, words: Sequence[str]) -> list[str]:
    """The options of ``dynapilco train`` that begin a run, or go on with it from its last finished trial."""
    common = ["--threads", "1", *words]
    if (run_dir / "config.toml").is_file():
        return ["--resume", str(run_dir), *common]
    if run_dir.exists():  # killed before its configuration was written: nothing has happened in it
        shutil.rmtree(run_dir)
    return ["--config", config, "--seed", str(seed), "--out", str(run_dir), *common]


def _train_baseline(told: Mapping[str, Any]) -> int:
    from dynapilco.compare.baseline import BaselineRun, train_baseline  # imports stable-baselines3

    train_baseline(BaselineRun(**told["baseline"], run_dir=Path(told["run_dir"]), seed=told["seed"]))
    return 0


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(ALONE)


def peak_memory_mb() -> float:
    """Largest resident memory of this process, in MB (10^6 bytes)."""
    try:  # of this program alone: what getrusage says begins with the program that started it
        line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM:"))
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    except (OSError, StopIteration, ValueError):  # no Linux
        unit = 1 if sys.platform == "darwin" else 1024
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
