"""``fans/trial-NNN.json``: what the model believed of a trial, small enough to keep for every trial.

Particles are kept as quantiles, one-step predictions as histograms of their probability integral transform (PIT),
numbers with 5 significant digits, so that a report can draw them without the model. JSON: nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from dynapilco.core.storage import write_atomically
from dynapilco.tracking.sink import Fan, Pit, Trial

FORMAT = 1
FOLDER = "fans"
LEVELS = (0.025, 0.25, 0.5, 0.75, 0.975)
PIT_BINS = 20
SAMPLES = 3
MOST_NUMBERS = 9_000
"""At up to 11 characters each a file stays below 100 kB; longer trials are thinned."""
LEAST_TIMES = 30
_FILE = re.compile(r"trial-(\d{3,})\.json")


def beliefs_file(run_dir: Path, trial: int) -> Path:
    """Where the beliefs about a trial are."""
    return run_dir / FOLDER / f"trial-{trial:03d}.json"


def beliefs_files(run_dir: Path) -> dict[int, Path]:
    """Trial -> file, in the order of trials."""
    found = ((_FILE.fullmatch(path.name), path) for path in (run_dir / FOLDER).glob("trial-*.json"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def write_beliefs(run_dir: Path, trial: Trial) -> None:
    """Write the file of a trial; nothing for a trial of which nothing was predicted."""
    if trial.fan is None and trial.pit is None:
        return
    document = {
        "format": FORMAT,
        "trial": trial.row.trial,
        "fan": None if trial.fan is None else fan_values(trial.fan),
        "pit": None if trial.pit is None else pit_values(trial.pit),
    }
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    write_atomically(beliefs_file(run_dir, trial.row.trial), text + "\n")


def fan_values(fan: Fan) -> dict[str, Any]:
    """A fan as JSON values: lists over state columns, in them (for quantiles) lists over ``LEVELS``, in them times.

    Of a long trial every ``stride``-th time is kept; of a state with very many columns the first ones.
    """
    width = len(LEVELS) + SAMPLES + 1
    columns = min(len(fan.names), MOST_NUMBERS // (LEAST_TIMES * width))
    kept = min(fan.actions.shape[1], columns)
    stride = max(1, math.ceil(len(fan.seconds) * (width * columns + kept + 1) / MOST_NUMBERS))
    finite = np.isfinite(fan.predicted).all(axis=(1, 2))
    particles = fan.predicted[finite][:, ::stride, :columns]
    quantiles = np.quantile(particles, LEVELS, axis=0) if len(particles) else np.zeros((0, 0, columns))
    picked = particles[np.linspace(0, len(particles) - 1, min(SAMPLES, len(particles))).astype(int)]
    steps = bool(np.array_equal(fan.seconds, np.arange(len(fan.seconds))))
    return {
        "clock": "steps" if steps else "s",
        "times": _rounded(fan.seconds[::stride]),
        "stride": stride,
        "names": list(fan.names[:columns]),
        "units": list(fan.units[:columns]),
        "columns_left_out": len(fan.names) - columns,
        "particles": len(fan.predicted),
        "particles_lost": int((~finite).sum()),
        "levels": list(LEVELS),
        "quantiles": _rounded(quantiles.transpose(2, 0, 1)),
        "samples": _rounded(picked.transpose(2, 0, 1)),
        "observed": _rounded(fan.observed[::stride, :columns].T),
        "action_names": list(fan.action_names[:kept]),
        "action_units": list(fan.action_units[:kept]),
        "actions": _rounded(fan.actions[::stride, :kept].T),
    }


def pit_values(pit: Pit) -> dict[str, Any]:
    """PIT values of each output as counts in ``PIT_BINS`` equal bins of [0, 1]; the not finite are counted apart."""
    columns = pit.values.T
    counts = [np.histogram(column[np.isfinite(column)], PIT_BINS, (0, 1))[0].tolist() for column in columns]
    return {"names": list(pit.names), "counts": counts, "not_finite": int((~np.isfinite(pit.values)).sum())}


def _rounded(values: np.ndarray) -> Any:
    """Nested lists with 5 significant digits; None for what is not finite."""
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
