"""The sinks that keep a run on disk: ``progress.csv``, which is the run, and ``fans/`` and pictures of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynapilco.core.storage import write_atomically
from dynapilco.tracking.fans import write_beliefs
from dynapilco.tracking.figures import learning_curve, particle_fan, png
from dynapilco.tracking.run_dir import PROGRESS_FILE
from dynapilco.tracking.sink import Sink, Trial, TrialRow
from dynapilco.tracking.video import write_video

FRAME_SECONDS = 1 / 30  # for environments without a clock


def progress_csv(rows: Sequence[TrialRow]) -> str:
    """Render ``progress.csv``.

    An empty cell stands for None, booleans are ``true`` and ``false``, and floats are written so that reading
    them gives the same number again.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TrialRow.columns())
    writer.writerows([_cell(value) for value in row.cells().values()] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)


class FileSink(Sink):
    """Writes ``progress.csv`` into a run directory.

    The file is written anew as a whole after each trial, so it is never half there. Nothing is written before
    ``start``.

    Parameters
    ----------
    run_dir : Path
    history : sequence of TrialRow
        Trials that a resumed run finished before; whatever else ``progress.csv`` holds is dropped.
    """

    required = True

    def __init__(self, run_dir: Path, history: Sequence[TrialRow] = ()) -> None:
        self.run_dir = run_dir
        self.rows = list(history)

    def start(self, config: dict[str, Any], trials: int) -> None:
        """Write the table as far as it is known."""
        self._write_progress()

    def trial(self, trial: Trial) -> None:
        """Write the table."""
        self.rows.append(trial.row)
        self._write_progress()

    def _write_progress(self) -> None:
        write_atomically(self.run_dir / PROGRESS_FILE, progress_csv(self.rows))


class FigureSink(Sink):
    """Writes ``figures/`` and ``videos/`` into a run directory, each file as a whole.

    Parameters
    ----------
    run_dir : Path
    history : sequence of TrialRow
        Trials that a resumed run finished before.
    message : callable, optional
        Hears what a person should know, in one sentence.
    """

    label = "the figures"

    def __init__(
        self,
        run_dir: Path,
        history: Sequence[TrialRow] = (),
        message: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.run_dir = run_dir
        self.rows = list(history)
        self._message = message

    def start(self, config: dict[str, Any], trials: int) -> None:
        """Draw the learning curve as far as it is known."""
        if self.rows:
            self._write_figure("learning_curve", png(learning_curve(self.rows)))

    def trial(self, trial: Trial) -> None:
        """Draw the figures and, when there are frames, write the video."""
        row = trial.row
        self.rows.append(row)
        self._write_figure("learning_curve", png(learning_curve(self.rows)))
        write_beliefs(self.run_dir, trial)
        if trial.fan is not None:
            content = png(particle_fan(trial.fan, fan_title(row)))
            write_atomically(prediction_file(self.run_dir, row.trial), content)
        if trial.frames:
            path = self.run_dir / "videos" / f"trial-{row.trial:02d}.mp4"
            write_video(path, trial.frames, frame_seconds(row), self._message)

    def _write_figure(self, name: str, content: bytes) -> None:
        write_atomically(self.run_dir / "figures" / f"{name}.png", content)


def prediction_file(run_dir: Path, trial: int) -> Path:
    """Where the figure of a trial's prediction is, or would be."""
    return run_dir / "figures" / f"trial-{trial:02d}-prediction.png"


def video_file(run_dir: Path, trial: int) -> Path | None:
    """The video of a trial, if it has one."""
    files = (run_dir / "videos" / f"trial-{trial:02d}.{ending}" for ending in ("mp4", "gif"))
    return next((file for file in files if file.is_file()), None)


def fan_title(row: TrialRow) -> str:
    """Heading of the figure of a trial: what was expected of it and what came."""
    predicted = "" if row.predicted_return is None else f", predicted {row.predicted_return:.1f}"
    return f"Trial {row.trial}: return {row.ret:.1f}{predicted}"


def frame_seconds(row: TrialRow) -> float:
    """Seconds between two frames of a trial."""
    return row.env_seconds / row.env_steps if row.env_seconds and row.env_steps else FRAME_SECONDS
