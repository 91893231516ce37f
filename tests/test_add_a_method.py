"""The exercise of docs/how-to/add-a-method.md: its method and its test run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "how-to" / "add-a-method.md"


@pytest.fixture
def exercise(tmp_path):
    method, test = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "snapshot.py").write_text(method)
    (tmp_path / "test_snapshot.py").write_text(test)
    return tmp_path


def run(folder, *command, **env):
    full = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "envs")]), "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(command, cwd=folder, env=full, capture_output=True, text=True, check=False)


def code_lines(text):
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_the_method_is_short_and_its_test_passes(exercise):
    assert len(code_lines((exercise / "snapshot.py").read_text())) < 100
    assert len(code_lines((exercise / "test_snapshot.py").read_text())) < 35
    done = run(exercise, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_snapshot.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_command_line_knows_it(exercise):
    listed = run(exercise, sys.executable, "-m", "dynapilco", "list", DYNAPILCO_PLUGINS="snapshot")
    assert listed.returncode == 0, listed.stderr
    assert "snapshot" in listed.stdout
    words = ["train", "--env-id", "dynapilco/CartPoleSwingUp-v0", "--inference", "snapshot", "--out", "run"]
    words += ["--total-timesteps", "120", "--search.steps", "4", "--search.screening-steps", "2", "--no-video"]
    words += ["--inference-kwargs.cold-steps", "20", "--inference-kwargs.cycles", "3", "--dynamics.hidden", "8"]
    trained = run(exercise, sys.executable, "-m", "dynapilco", *words, DYNAPILCO_PLUGINS="snapshot")
    assert trained.returncode == 0, trained.stderr
    assert (exercise / "run" / "summary.json").is_file()


def test_a_plugin_that_is_not_there_is_named(exercise):
    done = run(exercise, sys.executable, "-m", "dynapilco", "list", DYNAPILCO_PLUGINS="snapshott")
    assert done.returncode == 2
    assert "cannot import 'snapshott'" in done.stderr
