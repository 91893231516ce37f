"""What runs where, live: a table in a terminal, lines elsewhere. It only reads what the jobs write."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dynapilco.compare.folder import Folder, Job
from dynapilco.core.errors import UserError

POLL_SECONDS = 1.0
REFRESH_PER_SECOND = 2
MOST_ROWS = 32
HEADINGS = ("task", "method", "seed", "where", "trial", "return", "for")


@dataclass
class Watcher:
    """A context in which the jobs are watched.

    Parameters
    ----------
    folder : Folder
    jobs : sequence of Job
        All of the comparison.
    planned : dict
        Job -> number of trials that it will have.
    console : rich.console.Console
    changed : callable, optional
        Called after jobs came to their end, from the watching thread.
    """

    folder: Folder
    jobs: Sequence[Job]
    planned: dict[Job, int]
    console: Console
    changed: Any = None
    _states: dict[Job, dict[str, Any]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _began: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Watcher:
        for job in self.jobs:
            self._states[job] = self.folder.state(job)
        self._live = None
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self.table, console=self.console, refresh_per_second=REFRESH_PER_SECOND, transient=True
            )
            self._live.start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.look()
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A sentence, above the table where there is one."""
        self.console.print(text, soft_wrap=True)

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.look()
            except (UserError, OSError) as error:  # the jobs go on; the same error ends the command after them
                self.say(f"the tables cannot be written now: {error}")

    def look(self) -> None:
        """Read the states of the jobs that are not at their end, and tell what is new."""
        ended = False
        for job in self.jobs:
            before = self._states[job]
            if before.get("status") in ("done", "failed"):
                continue
            state = self._states[job] = self.folder.state(job)
            if state.get("status") != before.get("status") or state.get("attempts") != before.get("attempts"):
                self._tell(job, state)
                ended = ended or state.get("status") in ("done", "failed")
        if ended and self.changed is not None:
            self.changed()

    def _tell(self, job: Job, state: dict[str, Any]) -> None:
        status = state.get("status")
        if status == "running" and self._live is None:
            self.say(f"started {job.name}: process {state['pid']} on {state['host']}")
        elif status == "done":
            trials, last = self._progress(job)
            if self._live is None:
                self.say(f"done    {job.name}: {trials} trials, last return {last}, {state['seconds']:.0f} s")
        elif status == "failed":
            self.say(f"FAILED  {job.name}: {error_line(self.folder, job)}; see {self.folder.job_file(job, '.error')}")

    def table(self) -> Group:
        """What runs now, and how far the whole is."""
        running = [job for job in self.jobs if self._states[job].get("status") == "running"]
        table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in HEADINGS:  # a name that is cut off may be another one's too: in a narrow terminal it is folded
            left = heading in ("task", "method", "where")
            table.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=not left)
        hosts = {self._states[job]["host"] for job in running}
        for job in running[:MOST_ROWS]:
            state, (trials, last) = self._states[job], self._progress(job)
            where = f"{state['host']}:{state['pid']}" if len(hosts) > 1 else str(state["pid"])
            cells = [job.task.rpartition("/")[2], job.method, str(job.seed), where]
            spent = _clock(time.time() - state["began"])
            table.add_row(*cells, f"{trials} of {self.planned[job]}", last, spent)
        more = [Text(f"and {len(running) - MOST_ROWS} more")] if len(running) > MOST_ROWS else []
        place = Text(f"all on {next(iter(hosts))}; where: process") if len(hosts) == 1 else Text("where: host:process")
        return Group(Text(self._counts(len(running))), *([place] if hosts else []), table, *more)

    def _counts(self, running: int) -> str:
        ends = [state.get("status") for state in self._states.values()]
        done, failed = ends.count("done"), ends.count("failed")
        text = f"{done} of {len(self.jobs)} jobs done, {running} running, {failed} failed"
        return f"{text}, {_clock(time.monotonic() - self._began)}"

    def _progress(self, job: Job) -> tuple[int, str]:
        """Finished trials, and the return of the last one."""
        try:
            with (self.folder.run_dir(job) / "progress.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return len(rows), f"{float(rows[-1]['return']):.2f}" if rows else ""
        except (OSError, KeyError, ValueError):  # not written yet: what is shown now is nothing
            return 0, ""


def error_line(folder: Folder, job: Job) -> str:
    """The last line of a job's traceback; empty where it left none."""
    path = folder.job_file(job, ".error")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(max(0.0, seconds))))
