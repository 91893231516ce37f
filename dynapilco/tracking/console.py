"""The sink that shows a run in the terminal: live bars, a line for each trial, a table at the end."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from dynapilco.tracking.sink import Sink, Trial, TrialRow

PHASES = {"model": "fit the model", "policy": "search a policy", "environment": "act"}
PLAIN_WIDTH = 120
"""Columns to fill where the output is a file or a pipe, which have no width."""


def make_console(stderr: bool = False) -> Console:
    """A console that writes plain, unwrapped text where the output is no terminal."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console


class ConsoleSink(Sink):
    """Progress bars (in a terminal only), a printed line for each finished trial, and a closing table.

    Parameters
    ----------
    history : sequence of TrialRow
        Trials that a resumed run finished before.
    console : rich.console.Console, optional
        Where to write; standard output by default.
    """

    label = "the console"

    def __init__(self, history: Sequence[TrialRow] = (), console: Console | None = None) -> None:
        self.console = console or make_console()
        self.rows = list(history)
        self._trials = 0
        self._progress: Progress | None = None
        self._run_bar, self._phase_bar = TaskID(0), TaskID(0)

    def start(self, config: dict[str, Any], trials: int) -> None:
        """Say what runs, and open the bars."""
        self._trials = trials
        again = f", goes on after {len(self.rows)}" if self.rows else ""
        what = f"{config['env_id']}, {config['inference']}, seed {config['seed']}"
        self.message(f"{what}: {trials} trials{again}")
        if self.console.is_terminal and self._progress is None:
            self._open_bars()

    def _open_bars(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self._run_bar = self._progress.add_task("trials", total=self._trials, completed=len(self.rows), note="")
        self._phase_bar = self._progress.add_task("", total=None, note="")
        self._progress.start()

    def progress(self, trial: int, phase: str, done: int, total: int, metrics: dict[str, float]) -> None:
        """Move the bar of the phase."""
        if self._progress is None:
            return
        note = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
        self._progress.update(
            self._phase_bar,
            description=f"trial {trial}: {PHASES.get(phase, phase)}",
            completed=done,
            total=total,
            note=note,
        )

    def trial(self, trial: Trial) -> None:
        """Print the trial's line."""
        self.rows.append(trial.row)
        if self._progress is not None:
            self._progress.update(self._run_bar, completed=len(self.rows))
        self.console.print(trial_line(trial.row), soft_wrap=True)

    def message(self, text: str) -> None:
        """Print a sentence."""
        self.console.print(text, soft_wrap=True)

    def finish(self, summary: dict[str, Any]) -> None:
        """Print the table of all trials."""
        self.close()
        self.console.print(trial_table(self.rows))

    def close(self) -> None:
        """Close the bars; safe to call twice, and after an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def trial_line(row: TrialRow) -> str:
    """One trial as one line of text."""
    parts = [f"trial {row.trial:>2}", f"return {row.ret:8.2f}"]
    if row.predicted_return is not None:
        parts.append(f"predicted {row.predicted_return:8.2f}")
    else:
        parts.append("exploration" if row.explored else "planned")
    if row.success is not None:
        parts.append("success" if row.success else "no success")
    if row.coverage_95_horizon is not None:
        parts.append(f"coverage {_percent(row.coverage_95_horizon)}")
    if row.nan_rollouts:
        parts.append(f"{row.nan_rollouts} bad gradients skipped")
    if row.lost_candidates:
        parts.append(f"{row.lost_candidates} lost candidate{'s' * (row.lost_candidates > 1)} started afresh")
    return "  ".join([*parts, f"{_seconds(row):.1f} s"])


def _prediction(row: TrialRow) -> str:
    if row.predicted_return is not None:
        return f"{row.predicted_return:.2f}"
    return "explored" if row.explored else "planned"


def trial_table(rows: Sequence[TrialRow]) -> Table:
    """All trials as a table."""
    table = Table(title="Trials", title_justify="left", box=box.SIMPLE, pad_edge=False)  # fits in 80 columns
    for heading in ("trial", "data", "return", "predicted", "success"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("coverage 1 step", "coverage horizon"):  # these may wrap
        table.add_column(heading, justify="right")
    table.add_column("time", justify="right", no_wrap=True)
    for row in rows:
        data = f"{row.env_steps} steps" if row.env_seconds is None else f"{row.env_seconds:.4g} s"
        table.add_row(
            str(row.trial),
            data,
            f"{row.ret:.2f}",
            _prediction(row),
            "" if row.success is None else "yes" if row.success else "no",
            _percent(row.coverage_95_one_step),
            _percent(row.coverage_95_horizon),
            f"{_seconds(row):.1f} s",
        )
    return table


def _percent(share: float | None) -> str:
    return "" if share is None or not math.isfinite(share) else f"{100 * share:.0f} %"


def _seconds(row: TrialRow) -> float:
    return (row.seconds_model or 0.0) + (row.seconds_policy or 0.0) + row.seconds_env
