"""A trial in the data types of Weights & Biases."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from dynapilco.core.storage import STATE_FILE, read_fields
from dynapilco.tracking.details import Rollout, Spread
from dynapilco.tracking.figures import particle_fan, png
from dynapilco.tracking.files import fan_title, prediction_file, video_file
from dynapilco.tracking.pit import pit_counts
from dynapilco.tracking.sink import Trial, TrialRow


def scalars(row: TrialRow) -> dict[str, Any]:
    """The row's columns that have a value, and the axes. No step: wandb drops what has a smaller one than before."""
    values = {f"trial/{name}": value for name, value in row.cells().items() if value is not None}
    return {"env_step": row.env_steps, "trial": row.trial, **values}


def trial_values(trial: Trial, run_dir: Path) -> dict[str, Any]:
    """Everything about a trial, for one call of ``log``: charts keep only what is logged together with their axis."""
    import wandb

    values = scalars(trial.row)
    if trial.rollout is not None:
        columns, rows = transitions(trial.rollout)
        # an array and not lists: for those wandb would import pandas
        values["trial/transitions"] = wandb.Table(columns=list(columns), data=rows)
    if trial.pit is not None:
        counts = np.array(pit_counts(trial.pit))
        values["trial/pit"] = wandb.Histogram(np_histogram=(counts, np.linspace(0, 1, len(counts) + 1)))
    if trial.spread is not None:
        values |= _histograms(trial.spread)
    picture = _prediction(trial, run_dir)
    if picture is not None:
        values["trial/prediction"] = picture
    video = video_file(run_dir, trial.row.trial)
    if video is not None:
        values["trial/video"] = wandb.Video(str(video), format=video.suffix[1:])  # pyright: ignore
    return values


def transitions(rollout: Rollout) -> tuple[list[str], np.ndarray]:
    """Columns and rows of a table: step, time where there is a clock, state, action, reward, next state."""
    clock = [] if rollout.dt is None else ["seconds"]
    states, actions = _headings(rollout.names, rollout.units), _headings(rollout.action_names, rollout.action_units)
    columns = ["step", *clock, *states, *actions, "reward", *(f"next {name}" for name in states)]
    steps = np.arange(len(rollout.rewards), dtype=float)
    times = [] if rollout.dt is None else [steps * rollout.dt]
    parts = [steps, *times, rollout.states, rollout.actions, rollout.rewards, rollout.next_states]
    return columns, np.column_stack(parts).astype(float)


def checkpoint_artifact(folder: Path, trial: int, run_name: str) -> tuple[Any, list[str]] | None:
    """The checkpoint as a model artifact with the metrics of its trial, and its aliases.

    None where there is none of that trial: a folder keeps only the newest.
    """
    import wandb

    if not (folder / STATE_FILE).is_file():
        return None
    fields = read_fields(folder)
    last = TrialRow(**fields["history"][-1])
    if last.trial != trial:
        return None
    metrics = {name: value for name, value in last.cells().items() if value is not None}
    name = re.sub(r"[^\w.-]", "-", run_name)[:100]
    artifact = wandb.Artifact(
        f"{name}-checkpoint", type="model", description=f"after trial {last.trial}", metadata=metrics
    )
    for file in (folder / STATE_FILE, folder / fields["tensors"]["file"]):
        artifact.add_file(str(file))
    return artifact, ["latest", f"trial-{last.trial}"]


def _histograms(spread: Spread) -> dict[str, Any]:
    import wandb

    values: dict[str, Any] = {}
    for kind in ("epistemic", "aleatoric"):
        for name, column in zip(spread.names, getattr(spread, kind).T, strict=True):
            finite = column[np.isfinite(column)]
            if len(finite):
                values[f"spread/{kind}/{name}"] = wandb.Histogram(finite)  # pyright: ignore[reportArgumentType]
    return values


def _prediction(trial: Trial, run_dir: Path) -> Any:
    """The figure that lies in the run directory, or else drawn here; None where nothing was predicted."""
    import PIL.Image
    import wandb

    file = prediction_file(run_dir, trial.row.trial)
    if file.is_file():
        return wandb.Image(str(file))
    if trial.fan is None:
        return None
    return wandb.Image(PIL.Image.open(BytesIO(png(particle_fan(trial.fan, fan_title(trial.row)), dpi=100))))


def _headings(names: tuple[str, ...], units: tuple[str, ...]) -> list[str]:
    return [f"{name} [{unit}]" if unit else name for name, unit in zip(names, units, strict=True)]
