"""Comparisons that are small, and a folder that looks like one without any learning."""

import json

import pytest

from dynapilco.compare.folder import Folder, Job
from dynapilco.compare.tables import collect
from dynapilco.tracking.files import progress_csv
from dynapilco.tracking.sink import TrialRow

TASK = "dynapilco/PendulumSwingUp-v0"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def row(trial, success, ret=1.5):
    """A row of progress.csv; trial 0 explores."""
    acted = None if trial == 0 else 0.5
    return TrialRow(
        trial,
        40 * (trial + 1),
        4.0 * (trial + 1),
        ret,
        acted,
        success,
        acted,
        acted,
        acted,
        acted and 0,
        acted,
        acted,
        0.1,
    )


def write_run(folder, job, successes, score, status="done"):
    """A run directory and its job's state, as they are after the run."""
    run_dir = folder.run_dir(job)
    run_dir.mkdir(parents=True)
    (run_dir / "progress.csv").write_text(progress_csv([row(i, s) for i, s in enumerate(successes)]))
    state = folder.job_file(job, ".json")
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps({"status": status, "peak_memory_mb": 400.5}))
    if status == "failed":
        folder.job_file(job, ".error").write_text("Traceback\n  File\nValueError: bad, really\n\n")
        return
    first = next((i for i, s in enumerate(successes) if s and i), None)
    summary = {"evaluation_returns": [score - 1, score + 1], "success_rate": 1.0 if first else 0.0}
    summary |= {"first_success_trial": first, "wall_seconds": 12.5}
    (run_dir / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def written(tmp_path):
    """A comparison of two methods with two seeds, of which one run failed and one is missing."""
    folder = Folder(tmp_path / "out")
    folder.root.mkdir()
    (folder.root / "compare.json").write_text(json.dumps({"format_version": 1}))
    jobs = [Job(TASK, method, seed) for method in ("ensemble", "swag") for seed in (0, 1)]
    write_run(folder, jobs[0], [False, False, True], 10.0)
    write_run(folder, jobs[1], [True, False, False], 20.0)
    write_run(folder, jobs[2], [False, None], 0.0, status="failed")
    collect(folder, jobs)
    return folder
