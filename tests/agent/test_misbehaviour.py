"""Environments that break: what was sound is kept and saved, and the learning stops or goes on as asked."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dynapilco import DynaPILCO
from dynapilco.core.errors import EnvironmentFault, UserError
from dynapilco.tracking.sink import Sink

SETTINGS = {
    "inference_kwargs": {"members": 2, "cold_steps": 10, "warm_steps": 5},
    "policy_kwargs": {"hidden": [8]},
    "search": {"steps": 4, "screening_steps": 2, "fresh_starts": 1},
    "rollout": {"total_particles": 8},
    "exploration": {"least_steps": 1},
    "device": "cpu",
}
LENGTH = 8


class Robot(gymnasium.Env):
    """A joint that is pushed. ``breaks`` maps (episode, step) to what happens there; only resets with a seed count."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    horizon = LENGTH
    start_mean, start_std = np.zeros(2), 0.1

    def __init__(self, breaks=None):
        self.breaks, self.episode, self.steps = breaks or {}, -1, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + (seed is not None), 0
        self._do()
        self.joint = self.np_random.normal(0, 0.1, 2).astype(np.float32)
        return self.joint.copy(), {}

    def step(self, action):
        self.steps += 1
        what = self._do()
        self.joint = (0.9 * self.joint + 0.2 * float(action[0])).astype(np.float32)
        observation = np.full(2, np.nan) if what == "nan" else self.joint.copy()
        return observation, -float(self.joint[0] ** 2), what == "end", False, {}

    def _do(self):
        what = self.breaks.get((self.episode, self.steps))
        if what == "raise":
            raise OSError("motor 3 does not answer")
        return what


class Listener(Sink):
    def __init__(self):
        self.messages, self.trials = [], []

    def message(self, text):
        self.messages.append(text)

    def trial(self, trial):
        self.trials.append(trial)


def agent(env, **changes):
    return DynaPILCO("MlpPolicy", env, seed=1, **{**SETTINGS, **changes})


def returns(a):
    return [row.ret for row in a.history]


@pytest.mark.parametrize("what", ["raise", "nan"])
def test_a_broken_episode_is_kept_saved_and_reported(tmp_path, what):
    listener = Listener()
    a = agent(Robot({(1, 4): what})).attach([listener], tmp_path / "checkpoint")
    words = {"raise": "step raised OSError: motor 3 does not answer", "nan": r"non-finite observation \[nan, nan\]"}
    pattern = rf"trial 1: environment 'Robot' at step 3 under the action \[.*\]: {words[what]}; its 3 steps before are"
    with pytest.raises(EnvironmentFault, match=pattern):
        a.learn(5 * LENGTH)
    assert [row.ended_by for row in a.history] == ["time limit", "error"]
    assert [row.env_steps for row in a.history] == [LENGTH, LENGTH + 3]
    assert a.num_timesteps == LENGTH + 3
    assert [trial.row.trial for trial in listener.trials] == [0, 1]
    data = a.loop.state.data
    assert len(data) == LENGTH + 3
    assert torch.equal(data.states[LENGTH + 1 :], data.next_states[LENGTH:-1])
    assert data.next_states[LENGTH:, 3].tolist() == [0, 0, 0]  # it did not end, as far as the model may know
    back = DynaPILCO.load(tmp_path, Robot(), device="cpu")
    assert back.history == a.history
    assert torch.equal(back.loop.state.data.next_states, data.next_states)


def test_going_on_equals_stopping_and_resuming(tmp_path):
    with pytest.warns(UserWarning, match="trial 1: .*motor 3.*, and the next trial follows"):
        whole = agent(Robot({(1, 4): "raise"}), on_env_error="continue").learn(4 * LENGTH)
    assert [row.env_steps for row in whole.history] == [8, 11, 19, 27, 35]
    cut = agent(Robot({(1, 4): "raise"}))
    with pytest.raises(EnvironmentFault, match="on_env_error = 'continue' would go on"):
        cut.learn(4 * LENGTH)
    cut.save(tmp_path / "a")
    back = DynaPILCO.load(tmp_path / "a", Robot(), device="cpu", on_env_error="continue")
    assert back.config.on_env_error == "continue"
    back.learn(4 * LENGTH - back.num_timesteps, reset_num_timesteps=False)
    assert returns(back) == returns(whole)
    assert torch.equal(back.loop.state.policies, whole.loop.state.policies)
    assert back.delivered_trial == whole.delivered_trial


@pytest.mark.parametrize("step", [0, 1])
def test_nothing_to_keep_stops_always_and_leaves_no_trace(step):
    a = agent(Robot({(1, step): "raise"}), on_env_error="continue")
    with pytest.raises(EnvironmentFault, match="at reset: reset raised" if step == 0 else "at step 0"):
        a.learn(3 * LENGTH)
    assert [row.trial for row in a.history] == [0]
    assert a.num_timesteps == LENGTH
    a.learn(LENGTH, reset_num_timesteps=False)
    assert len(a.history) == 2


def test_the_first_episode_may_break_after_one_step():
    with pytest.warns(UserWarning, match="its 1 step before are kept"):
        a = agent(Robot({(0, 2): "raise"}), on_env_error="continue").learn(LENGTH)
    assert [row.env_steps for row in a.history] == [1, 1 + LENGTH]


def test_episodes_that_end_at_their_first_step():
    a = agent(Robot({(episode, 1): "end" for episode in range(9)})).learn(3)
    assert [(row.env_steps, row.ended_by) for row in a.history] == [(n, "termination") for n in (1, 2, 3)]


def test_an_environment_that_never_ends_is_stopped_at_its_horizon():
    a = agent(Robot()).learn(2 * LENGTH)
    assert [row.env_steps for row in a.history] == [LENGTH, 2 * LENGTH]


def test_a_part_of_a_return_does_not_choose_the_policy():
    """Costs add up with time: a broken trial has the best return of all, and says the least."""
    a = agent(Robot({(2, 2): "raise"}), on_env_error="continue")
    with pytest.warns(UserWarning, match="motor 3"):
        a.learn(3 * LENGTH)
    control, state = a.loop.control, a.loop.state
    rows = [state.history[t] for t in state.policy_trials]
    assert [row.ended_by for row in rows] == ["time limit", "error", "time limit"]
    before = control.choose_delivered()
    index = state.history.index(rows[1])
    state.history[index] = replace(rows[1], ret=1e6)
    assert control.choose_delivered() == before


def test_an_action_that_is_not_finite_is_not_sent():
    sent = []

    class Recorder(Robot):
        def step(self, action):
            sent.append(action)
            return super().step(action)

    a = agent(Recorder())
    bad = lambda observation, step: np.array([np.nan if step == 2 else 0.1], np.float32)  # noqa: E731
    episode = a.loop.act(bad)
    assert "at step 2: the action [nan] is not finite: it was not sent" in str(episode.fault)
    assert len(sent) == len(episode.actions) == 2


def test_an_evaluation_of_a_broken_environment_is_an_error():
    with pytest.raises(EnvironmentFault, match="motor 3"):
        agent(Robot({(1, 3): "raise"})).evaluate(3)


def test_the_words_are_checked():
    for name in ("on_env_error", "on_disagreement"):
        with pytest.raises(UserError, match=f"unknown {name} 'ignore': valid names are continue, stop"):
            agent(Robot(), **{name: "ignore"})
