"""The command line with an environment that breaks in the middle of a trial."""

import csv
import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dynapilco.cli.main import main
from tests.cli import test_hardening

ID = "dynapilco-test/Torn-v0"
TINY = [*test_hardening.TINY, "--exploration.least-steps", "1"]


class Torn(gymnasium.Env):
    """Fails at the fourth step of the episodes whose seeds are in ``bad``; its seeds come in a fixed order."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    start_mean, start_std = np.zeros(1), 0.1
    bad = 1
    seeds = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None and seed not in Torn.seeds:
            Torn.seeds.append(seed)
        self.number = None if seed is None else Torn.seeds.index(seed)
        self.x, self.steps = self.np_random.normal(0, 0.1, 1).astype(np.float32), 0
        return self.x, {}

    def step(self, action):
        self.steps += 1
        if self.number == Torn.bad and self.steps == 4:
            raise OSError("the cable is torn")
        self.x = (0.9 * self.x + 0.1 * action).astype(np.float32)
        return self.x, -float(self.x[0] ** 2), False, False, {}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Torn.seeds = []
    gymnasium.register(ID, entry_point=Torn, max_episode_steps=10)
    yield
    del gymnasium.registry[ID]


def columns(name):
    return [row[name] for row in csv.DictReader(Path("run/progress.csv").read_text().splitlines())]


def test_stopped_kept_and_resumed(capsys):
    words = [word if word != "120" else "33" for word in TINY]
    assert main(["train", "--env-id", ID, *words, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert "error: trial 1: environment 'dynapilco-test/Torn-v0' at step 3 under the action [" in error
    assert "step raised OSError: the cable is torn; its 3 steps before are kept" in error
    assert "the checkpoint of trial 1 is in run/checkpoint; go on with: dynapilco train --resume run" in error
    assert columns("ended_by") == ["time limit", "error"]
    assert columns("env_steps") == ["10", "13"]
    assert main(["train", "--resume", "run", "--on-env-error", "continue"]) == 0
    assert columns("env_steps") == ["10", "13", "23", "33"]
    assert columns("disagreements") == [""] * 4
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["env_errors"], summary["trials"]) == (1, 4)


def test_going_on(capsys):
    words = [word if word != "120" else "14" for word in TINY]
    assert main(["train", "--env-id", ID, *words, "--out", "run", "--on-env-error", "continue"]) == 0
    assert "trial 1: environment" in (out := capsys.readouterr().out)
    assert "and the next trial follows" in out
    assert columns("env_steps") == ["10", "13", "23"]
