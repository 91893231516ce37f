"""Agents whose states hold angles in the place of cosines and sines: declared, found after exploration, by hand."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.callbacks import BaseCallback

from dynapilco import DynaPILCO
from dynapilco.agent.episode import run_episode
from dynapilco.cli.describe import described
from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.tracking.events import EventSink
from dynapilco.tracking.recorded import read_recorded
from tests.agent.test_misbehaviour import SETTINGS

LENGTH = 24


class Arm(gymnasium.Env):
    """A joint that is pushed, about upright at first, seen as [velocity, sine, cosine]; it says nothing of itself."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    dt = 0.1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.angle, self.rate = np.pi + self.np_random.normal(0, 0.2), self.np_random.normal(0, 3)
        return self._see(), {}

    def step(self, action):
        rate = self.rate + 2 * float(action[0])
        self.angle, self.rate = self.angle + self.dt * (self.rate + rate) / 2, rate
        return self._see(), self.worth(None, None, self._see(), np).item(), False, False, {}

    def _see(self):
        return np.array([self.rate, np.sin(self.angle), np.cos(self.angle)], np.float32)

    @staticmethod
    def worth(state, action, after, xp):
        return after[..., 2] - 0.01 * after[..., 0] ** 2


class Named(Arm):
    """The same, telling all."""

    reward = staticmethod(Arm.worth)
    cos_sin_pairs = ((2, 1, 0),)
    state_names = ("phi_dot", "sin(phi)", "cos(phi)")


class Listener:
    """A sink that keeps what it is told."""

    label, required = "listener", True

    def __init__(self):
        self.told, self.trials = [], []

    def message(self, text):
        self.told.append(text)

    def trial(self, trial):
        self.trials.append(trial)

    def __getattr__(self, name):
        return lambda *_, **__: None


def agent(kind=Arm, **changes):
    return DynaPILCO("mlp", TimeLimit(kind(), LENGTH), seed=3, **{**SETTINGS, **changes})


def numbers(a):
    cells = [row.cells() for row in a.history]
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in cells]


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("kind", [Arm, Named])
def test_predict_takes_the_observation_of_the_environment(tmp_path, kind, history):
    a = agent(kind, history=history).learn(2 * LENGTH)
    assert a.task.angles.circles[0].cos == 2
    assert a.task.geometry.pairs == ((0, 1),) or a.task.geometry.pairs == ((1, 0),)
    assert all(row.disagreements in (0, None) for row in a.history)
    wanted = run_episode(a.task.flat(kind()), a.loop.delivered_controller("evaluation"), 7, LENGTH)
    env, state, taken = kind(), None, []
    observation = env.reset(seed=7)[0]
    for _ in range(LENGTH):
        action, state = a.predict(observation, state)
        taken.append(action)
        observation = env.step(action)[0]
    np.testing.assert_allclose(np.stack(taken), wanted.actions, atol=1e-5)
    a.save(tmp_path)
    back = DynaPILCO.load(tmp_path, TimeLimit(kind(), LENGTH), device="cpu")
    np.testing.assert_array_equal(back.predict(observation)[0], a.predict(observation)[0])
    assert back.evaluate(2).returns == a.evaluate(2).returns


def test_what_is_found_is_said_and_taken_up():
    listener = Listener()
    a = agent().attach([listener]).learn(3 * LENGTH)
    (said,) = [text for text in listener.told if "cosine" in text]
    assert "s2 and s1 are the cosine and sine of an angle in all of 24 transitions" in said
    assert "with the velocity s0 (it misses 0% of the changes)" in said
    assert a.loop.state.angles == [[2, 1, 0]]
    assert a.task.names == ("s0", "angle of s2 s1", "reward", "ended")
    assert a.task.geometry.pairs == ((1, 0),)
    data = a.loop.state.data
    assert data.states.shape == (3 * LENGTH, 4)
    for trial in range(3):  # also the exploration, which came before
        rows = data.trials == trial
        assert torch.equal(data.states[rows][1:], data.next_states[rows][:-1])
        assert float((data.next_states - data.states)[rows][:, 1].abs().max()) < np.pi
    led = 0.1 * (data.states[:, 0] + data.next_states[:, 0]) / 2
    torch.testing.assert_close(data.next_states[:, 1] - data.states[:, 1], led, atol=1e-4, rtol=1e-4)
    assert [trial.rollout.names for trial in listener.trials][1:] == [a.task.names] * 2
    assert listener.trials[1].fan.names == a.task.names


def test_a_run_that_is_read_back_names_the_columns_that_its_data_have(tmp_path):
    a = agent().attach([EventSink(tmp_path)], tmp_path / "checkpoint").learn(2 * LENGTH)
    rollouts = [trial.rollout for trial in read_recorded(tmp_path, a.history).trials]
    assert [rollout.names for rollout in rollouts] == [a.task.names] * 2
    assert [rollout.states.shape for rollout in rollouts] == [(LENGTH, 4)] * 2


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("done", [1, 2])
def test_resuming_is_as_if_nothing_had_been(tmp_path, done, history):
    whole = agent(history=history).learn(3 * LENGTH)
    agent(history=history).learn(done * LENGTH).save(tmp_path)
    back = DynaPILCO.load(tmp_path, TimeLimit(Arm(), LENGTH), device="cpu")
    back.learn((3 - done) * LENGTH, reset_num_timesteps=False)
    assert numbers(back) == numbers(whole)
    assert torch.equal(back.loop.state.data.states, whole.loop.state.data.states)
    assert torch.equal(back.loop.state.policies, whole.loop.state.policies)


class Stop(BaseCallback):
    """Saves, and stops, at a step."""

    def __init__(self, step, path):
        super().__init__()
        self.step, self.path = step, path

    def _on_step(self):
        if self.num_timesteps == self.step:
            self.model.save(self.path)
        return self.num_timesteps < self.step


def test_a_trial_that_is_stopped_takes_what_it_found_back(tmp_path):
    whole = agent().learn(2 * LENGTH)
    a = agent().learn(2 * LENGTH, callback=Stop(LENGTH + 3, tmp_path))
    assert len(a.history) == 1
    assert a.loop.state.angles is None
    assert a.task.angles is None
    assert a.loop.state.data.states.shape == (LENGTH, 5)
    saved = DynaPILCO.load(tmp_path, TimeLimit(Arm(), LENGTH), device="cpu")
    for again in (a, saved):
        again.learn(LENGTH, reset_num_timesteps=False)
        assert numbers(again) == numbers(whole)


def test_words_decide():
    assert agent(angles="off").learn(2 * LENGTH).loop.state.data.states.shape[1] == 5
    assert agent(angles="declared").learn(2 * LENGTH).task.angles is None
    assert agent(Named, angles="off").task.angles is None
    assert agent(Named, angles="declared").task.names == ("phi_dot", "phi")
    by_hand = agent(angles=[(2, 1)])
    assert by_hand.config.angles == "2,1"
    assert by_hand.task.geometry.pairs == ()
    assert agent(angles="2,1,0").task.geometry.pairs == ((1, 0),)
    with pytest.raises(UserError, match="expected 'auto'"):
        agent(angles="maybe")
    with pytest.raises(UserError, match="columns of an observation"):
        agent(angles="2,7")
    none = Arm()
    none.cos_sin_pairs = ()
    a = DynaPILCO("mlp", TimeLimit(none, LENGTH), seed=3, **SETTINGS).learn(2 * LENGTH)
    assert a.loop.state.angles is None
    assert a.task.angles is None


def test_agents_from_before_there_were_angles_have_none(tmp_path):
    agent(Named, angles="off").learn(2 * LENGTH).save(tmp_path)
    path = tmp_path / "state.json"
    fields = json.loads(path.read_text())
    del fields["config"]["angles"], fields["angles"]
    path.write_text(json.dumps(fields))
    back = DynaPILCO.load(tmp_path, TimeLimit(Named(), LENGTH), device="cpu")
    assert back.config.angles == "off"
    assert back.learn(LENGTH, reset_num_timesteps=False).task.angles is None


def test_another_environment_object_is_compared(tmp_path):
    a = agent(Named).learn(2 * LENGTH)
    a.set_env(TimeLimit(Named(), LENGTH))
    assert len(a.learn(LENGTH, reset_num_timesteps=False).history) == 3
    other = Named()
    other.cos_sin_pairs = ((1, 2),)
    a.save(tmp_path)
    with pytest.raises(CheckpointError, match="cos_sin"):
        DynaPILCO.load(tmp_path, TimeLimit(other, LENGTH), device="cpu")


@pytest.mark.parametrize("controller", ["evolution", "cem", "sac", "ppo"])
@pytest.mark.parametrize("history", [1, 2])
def test_every_controller_takes_angles(controller, history):
    changes = {
        "planning": {"horizon": 4, "population": 8, "iterations": 1},
        "imagination": {"num_envs": 4, "least_updates": 2, "prefill": 2, "rounds": 1, "updates_per_step": 0.1},
        "evolution": {"generations": 2, "population": 4},
        "controller_kwargs": {"ppo": {"n_steps": 8, "batch_size": 16, "n_epochs": 1}}.get(controller, {}),
    }
    a = agent(controller=controller, history=history, **changes).learn(2 * LENGTH)
    assert np.isfinite([row.ret for row in a.history]).all()
    env = a.imagine(5)
    seen = [env.reset(seed=0)[0]]
    for _ in range(6):
        seen.append(env.step(np.ones((5, 1), np.float32))[0])
    seen = np.stack(seen)
    assert seen.shape == (7, 5, 3)
    np.testing.assert_allclose(seen[..., 1] ** 2 + seen[..., 2] ** 2, 1, atol=1e-5)


def test_what_is_understood_says_angles():
    gymnasium.register("tests_angles/Arm-v0", Arm, max_episode_steps=LENGTH)
    try:
        rows = dict(described("tests_angles/Arm-v0"))
    finally:
        del gymnasium.registry["tests_angles/Arm-v0"]
    assert rows["observation"] == "3 numbers: s0, s1, s2"
    assert "holds angle of s2 s1 for s2, s1 (found in 200 random steps" in rows["cosines and sines"]
    assert rows["positions and velocities"] == "angle of s2 s1 <- s0"
    rows = dict(described("Acrobot-v1"))
    assert rows["cosines and sines"].endswith("theta2 for cos(theta2), sin(theta2) (as it is known)")
    assert "cosines and sines" not in dict(described("dynapilco/CartPoleSwingUp-v0"))
