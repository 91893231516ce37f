"""The driver's end of a worker process (see ``worker.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Worker:
    """A runner started with ``--worker``; a context manager that ends it.

    Parameters
    ----------
    name : str
        For messages.
    python, script : path
        Interpreter and runner.
    core : int, optional
        The CPU core that the process is bound to, where the system can (Linux).
    """

    def __init__(self, name: str, python: Path, script: Path, core: int | None = None) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [str(python), str(script), "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        if core is not None:
            # The worker imports its library while this runs: threads started later inherit the binding.
            os.sched_setaffinity(self._process.pid, {core})
        self.workloads: list[str] = self._answer()["workloads"]

    def run(self, workload: str, steps: int) -> dict[str, Any]:
        """Have ``steps`` steps done: ``wall`` and ``cpu`` in seconds, or ``missing`` where there is no such row yet."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {workload} {steps}\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            raise RuntimeError(f"worker {self.name!r} ended with exit code {code}:\n{self._log.read()[-4000:]}")
        return json.loads(line)
