"""A fake agent with the face of ``DynaPILCO``, so that the command line can be tested without learning."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from dynapilco.agent.algorithm import DynaPILCO
from dynapilco.agent.config_file import build_config
from dynapilco.cli.main import main
from dynapilco.core.errors import CheckpointError
from dynapilco.core.storage import STATE_FILE, save_state
from dynapilco.tasks import make_env
from dynapilco.tracking.sink import Fan, Trial, TrialRow

HORIZON = 60


class FakeAgent:
    """Trials of 60 steps, the first of which explores; the return is the number of the trial."""

    stop_in_trial = None
    """Trial in which Ctrl-C is pressed."""
    success_rule = True
    engine = "torch"
    started = 0
    """Trials run, over all agents."""

    def __init__(self, config, render):
        self.config, self.render = config, render
        self.history, self.sinks, self.checkpoint_dir = [], [], None
        self.num_timesteps = 0

    @classmethod
    def from_config(cls, config, sinks=(), checkpoint_dir=None, render=False):
        make_env(config.env_id, config.env_kwargs).close()
        return cls(config, render).attach(sinks, checkpoint_dir)

    @classmethod
    def load(cls, path, env=None, device="auto", render=False, **_):
        file = path / "checkpoint" / STATE_FILE
        if not file.is_file():
            raise CheckpointError(f"{path} holds no checkpoint")
        saved = json.loads(file.read_text())
        agent = cls(build_config(saved["config"]), render)
        agent.history = [TrialRow(**row) for row in saved["history"]]
        agent.num_timesteps = agent.history[-1].env_steps
        return agent

    def attach(self, sinks=(), checkpoint_dir=None):
        self.sinks, self.checkpoint_dir = list(sinks), checkpoint_dir
        return self

    def learn(self, total_timesteps, reset_num_timesteps=True):
        goal = total_timesteps + (0 if reset_num_timesteps else self.num_timesteps)
        for sink in self.sinks:
            sink.start(asdict(self.config), -(-goal // HORIZON))
        while self.num_timesteps < goal:
            self._trial(last=self.num_timesteps + HORIZON >= goal)
        return self

    def _trial(self, last):
        FakeAgent.started += 1
        number = len(self.history)
        if number == FakeAgent.stop_in_trial:
            raise KeyboardInterrupt
        for sink in self.sinks:
            sink.progress(number, "model", 1, 2, {"potential": 0.5})
        self.num_timesteps += HORIZON
        explored = None if number == 0 else 1.0
        self.history.append(
            TrialRow(
                trial=number,
                env_steps=self.num_timesteps,
                env_seconds=self.num_timesteps * 0.05,
                ret=float(number),
                predicted_return=explored and number / 3,
                success=number >= 2,
                model_nll=explored,
                coverage_95_one_step=explored,
                coverage_95_horizon=explored,
                nan_rollouts=explored and 0,
                seconds_model=explored,
                seconds_policy=explored,
                seconds_env=0.5,
            )
        )
        state = {"config": asdict(self.config), "history": [asdict(row) for row in self.history]}
        save_state(self.checkpoint_dir, {}, state)
        frames = [np.zeros((16, 16, 3), np.uint8)] * 4 if self.render and last else []
        for sink in self.sinks:
            sink.trial(Trial(self.history[-1], None if number == 0 else FAN, frames))

    @property
    def delivered_trial(self):
        return max(range(len(self.history)), key=lambda i: self.history[i].ret) or None

    def evaluate(self, episodes=20):
        good = [True] * (episodes - 1) + [False] if self.success_rule else None
        return SimpleNamespace(returns=[float(i % 3) for i in range(episodes)], successes=good)


FAN = Fan(
    np.arange(3) * 0.05, np.zeros((2, 3, 1)), np.zeros((3, 1)), ("x",), ("m",),
    np.zeros((2, 1)), ("force",), ("N",),
)  # fmt: skip


@pytest.fixture
def fake_agent(monkeypatch):
    monkeypatch.setattr("dynapilco.agent.DynaPILCO", FakeAgent, raising=False)
    monkeypatch.setattr(FakeAgent, "stop_in_trial", None)
    monkeypatch.setattr(FakeAgent, "success_rule", True)
    monkeypatch.setattr(FakeAgent, "started", 0)
    monkeypatch.setattr("dynapilco.tracking.files.particle_fan", lambda fan, title: None)  # drawing is slow
    monkeypatch.setattr("dynapilco.tracking.files.learning_curve", lambda rows: None)
    monkeypatch.setattr("dynapilco.tracking.files.png", lambda figure: b"a picture")
    return FakeAgent


@pytest.fixture
def real_agent(monkeypatch):
    monkeypatch.setattr("dynapilco.agent.DynaPILCO", DynaPILCO, raising=False)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli(capsys):
    """Run the command line: ``code, out, err = cli("train", "--seed", "1")``."""

    def call(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call
