"""A job as its worker sees it: one process of its own, started, watched, and its end written down.

A run in a process of its own has its own memory to measure and its own output to keep, and one that is killed (by a
driver, for want of memory) takes nobody with it. Nothing heavy is imported here: workers are many.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynapilco.compare.folder import Folder, Job
from dynapilco.core.atomic import write_atomically

ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "RAYON_NUM_THREADS",
    )
}
HANDED_ON = ("PYTHONPATH", "DYNAPILCO_PLUGINS", "WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "MUJOCO_GL")
"""Variables that a worker on another machine would not have."""
POLL_SECONDS = 0.1
LOG_TAIL = 40


@dataclass(frozen=True)
class Order:
    """A job, and all that its worker needs to know.

    Attributes
    ----------
    job : Job
    out : str
        Absolute path of the comparison.
    directory : str
        Where the user stands; plugins and files are looked for from there.
    environment : dict
        Variables to hand on.
    words : tuple of str
        Options of ``dynapilco train`` beside the configuration.
    baseline : dict
        Of a baseline: its algorithm, options, task and steps.
    """

    job: Job
    out: str
    directory: str
    environment: dict[str, str]
    words: tuple[str, ...] = ()
    baseline: dict[str, Any] | None = None

    @property
    def folder(self) -> Folder:
        """The comparison's folder."""
        return Folder(Path(self.out))


def handed_on() -> dict[str, str]:
    """The variables of this process that jobs need everywhere."""
    return {name: os.environ[name] for name in HANDED_ON if name in os.environ}


def run_job(order: Order) -> str:
    """Run a job to its end and return its status, ``"done"`` or ``"failed"``. What happens to it never raises.

    A job that is already done is left alone.
    """
    folder, job = order.folder, order.job
    if folder.is_done(job):
        return "done"
    began, attempts = time.time(), int(folder.state(job).get("attempts", 0)) + 1
    folder.job_file(job, ".error").unlink(missing_ok=True)
    log = folder.job_file(job, ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dynapilco.compare.worker", json.dumps(_told(order))],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            cwd=order.directory if os.path.isdir(order.directory) else None,
            env={**os.environ, **order.environment, **ONE_THREAD},
            start_new_session=True,  # Ctrl-C is answered by the comparison, not by every job
        )  # fmt: skip
    state = {
        "status": "running",
        "attempts": attempts,
        "pid": process.pid,
        "host": socket.gethostname(),
        "began": began,
    }
    _write(folder, job, state)
    try:
        code = _wait(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    usage = _usage(folder, job, process.pid)
    done = code == 0 and (folder.run_dir(job) / "summary.json").is_file()
    if not done:
        _explain(folder, job, code)
    status = "done" if done else "failed"
    _write(folder, job, {**state, **usage, "status": status, "seconds": round(time.time() - began, 3)})
    return status


def _told(order: Order) -> dict[str, Any]:
    """What the process is told: words for ``dynapilco train``, or a baseline."""
    folder, job = order.folder, order.job
    files = {name: str(folder.job_file(job, f".{name}")) for name in ("lock", "error", "usage")}
    told = {"parent": os.getpid(), **files, "run_dir": str(folder.run_dir(job)), "seed": job.seed}
    if order.baseline is not None:
        return {**told, "baseline": order.baseline}
    return {**told, "config": str(folder.config_file(job.task, job.method)), "words": order.words}


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code; the process is killed when this one loses its own parent, that is, when nobody wants it."""
    parent = os.getppid()
    while True:
        try:
            return process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                process.kill()
                process.wait()
                os._exit(1)


def _usage(folder: Folder, job: Job, pid: int) -> dict[str, Any]:
    """What the process measured of itself; nothing where it was killed."""
    path = folder.job_file(job, ".usage")
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    path.unlink(missing_ok=True)
    return {"peak_memory_mb": found.get("peak_memory_mb")} if found.get("pid") == pid else {}


def _explain(folder: Folder, job: Job, code: int) -> None:
    """Write the ``.error`` of a process that could not do it itself: how it ended, and its last words."""
    path = folder.job_file(job, ".error")
    if path.is_file():
        return
    lines = folder.job_file(job, ".log").read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    if code < 0:
        number = -code
        name = signal.Signals(number).name if number in {s.value for s in signal.Signals} else f"signal {number}"
        last = f"the job was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    elif code == 0:
        last = "the job ended without a summary.json"
    write_atomically(path, "\n".join([*lines[-LOG_TAIL:], last]) + "\n")


def _write(folder: Folder, job: Job, state: Mapping[str, Any]) -> None:
    write_atomically(folder.job_file(job, ".json"), json.dumps({**asdict(job), **state}, indent=1) + "\n")
