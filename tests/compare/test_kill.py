"""A comparison that is killed and gone on with equals one that was not."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("everything", [False, True], ids=["the command", "every process"])
def test_a_killed_comparison_ends_as_if_nothing_had_happened(everything, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("compare_kill", ROOT / "experiments" / "compare_kill.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "envs")]))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    script.finish(script.start(whole, script.SETTINGS))
    began = script.start(killed, script.SETTINGS)
    while not list(killed.glob("runs/*/*/*/checkpoint/state.json")):  # in the middle of a run, not before the first
        assert began.poll() is None
    began.kill()
    began.wait()
    script.wait_until_alone(killed)
    left = list(killed.rglob("summary.json"))
    assert len(left) < 5
    script.kill_and_resume(killed, ["--resume", "--jobs", "2"], 12.0, everything)
    assert script.differences(whole, killed) == []
