"""Settings that change nothing are said, once in a run."""

import pytest

from dynapilco import DynaPILCO
from dynapilco.agent.config import AUTO, CONTROLLERS, AgentConfig
from dynapilco.agent.config_file import build_config
from dynapilco.agent.control.unused import USED, unused_settings, unused_text
from dynapilco.rollout import RolloutConfig
from dynapilco.search import SearchConfig
from tests.agent.test_misbehaviour import LENGTH, SETTINGS, Listener, Robot

ODD = {
    "rollout": {"horizon": 50, "starts": "replay", "total_particles": 80},
    "search": {"steps": 7},
    "evolution": {"spread": 0.5},
    "planning": {"horizon": 9},
    "imagination": {"length": 2},
}


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ("pathwise", ["evolution.spread=0.5", "planning.horizon=9", "imagination.length=2"]),
        (
            "evolution",
            ["rollout.horizon=50", "rollout.starts='replay'", "search.steps=7", "planning.horizon=9",
             "imagination.length=2"],
        ),
        (
            "cem",
            ["rollout.starts='replay'", "rollout.total_particles=80", "rollout.horizon=50", "search.steps=7",
             "evolution.spread=0.5", "imagination.length=2"],
        ),
        (
            "sac",
            ["rollout.horizon=50", "rollout.starts='replay'", "search.steps=7", "evolution.spread=0.5",
             "planning.horizon=9"],
        ),
    ],
)  # fmt: skip
def test_what_each_does_not_look_at(acts, expected):
    assert sorted(unused_settings(build_config(ODD), acts)) == sorted(expected)
    assert unused_text(AgentConfig(), acts) is None


def test_every_controller_is_listed():
    assert set(USED) == set(CONTROLLERS) - {AUTO}


def messages(agent, steps):
    listener = Listener()
    agent.attach([listener]).learn(steps, reset_num_timesteps=False)
    return [text for text in listener.messages if "does not look at" in text]


def test_it_is_said_once_in_a_run(tmp_path):
    small = {"generations": 1, "population": 4, "fresh_starts": 1, "draws": 1}
    settings = {**SETTINGS, "rollout": RolloutConfig(horizon=5, total_particles=8), "search": SearchConfig()}
    agent = DynaPILCO("mlp", Robot(), seed=0, controller="evolution", evolution=small, **settings)
    said = messages(agent, 2 * LENGTH)
    assert len(said) == 1
    assert said[0].startswith("controller evolution does not look at rollout.horizon=5: without effect (it imagines")
    assert messages(agent, LENGTH) == []
    agent.save(tmp_path)
    assert messages(DynaPILCO.load(tmp_path, Robot(), device="cpu"), LENGTH) == []
