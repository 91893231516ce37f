"""``summary.json``: what came out of a run, in one small file."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from numbers import Real
from pathlib import Path
from typing import Any

from dynapilco.core.storage import write_atomically
from dynapilco.tracking.git import git_commit
from dynapilco.tracking.sink import TrialRow

SUMMARY_FILE = "summary.json"
SOLVED_RATE = 0.9
"""Share of fresh episodes that must succeed for a task to count as solved."""
PACKAGES = ("torch", "numpy", "gymnasium", "stable_baselines3", "dynapilco")


def build_summary(
    config: Mapping[str, Any],
    rows: Sequence[TrialRow],
    returns: Sequence[float],
    successes: Sequence[bool] | None,
    *,
    delivered_trial: int | None,
    wall_seconds: float,
    engine: str = "unknown",
) -> dict[str, Any]:
    """What ``summary.json`` holds.

    Parameters
    ----------
    config : mapping
        The resolved configuration: its ``seed``, ``env_id`` and ``inference`` are repeated in the summary.
    rows : sequence of TrialRow
        All trials.
    returns, successes : sequence
        Of fresh episodes with the delivered policy; ``successes`` is None without a rule of success.
    delivered_trial : int or None
        The trial whose policy ``predict`` uses; None where no policy was learned.
    wall_seconds : float
        Duration of the whole run.
    engine : str
        What computed the rollouts: ``"fused"`` or ``"torch"``.
    """
    rate = None if not successes else sum(map(bool, successes)) / len(successes)
    first = next((row for row in rows if row.success and not row.explored), None)
    return {
        "solved": None if rate is None else rate >= SOLVED_RATE,
        "success_rate": rate,
        "evaluation_returns": [float(r) for r in returns],
        "first_success_trial": None if first is None else first.trial,
        "env_seconds_to_success": None if first is None else first.env_seconds,
        "delivered_trial": delivered_trial,
        "trials": len(rows),
        "nan_rollouts": sum(row.nan_rollouts or 0 for row in rows),
        "env_errors": sum(row.ended_by == "error" for row in rows),
        "disagreements": sum(row.disagreements or 0 for row in rows),
        "env_id": config["env_id"],
        "inference": config["inference"],
        "seed": config["seed"],
        "engine": engine,
        "wall_seconds": wall_seconds,
        "versions": versions(),
        "git_commit": git_commit(),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


def write_summary(run_dir: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``; numbers that JSON cannot hold become null."""
    write_atomically(run_dir / SUMMARY_FILE, json.dumps(finite(summary), indent=1, allow_nan=False) + "\n")


def read_summary(run_dir: Path) -> dict[str, Any] | None:
    """Read ``summary.json``, or None when the run has none that is whole."""
    try:
        found = json.loads((run_dir / SUMMARY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def finite(value: Any) -> Any:
    """The same with null for every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, Real) and not math.isfinite(value) else value
