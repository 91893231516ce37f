"""Agents of stable-baselines3 trained in the model: they repeat, resume, are saved, act, and break down well."""

import numpy as np
import pytest
import torch

from dynapilco import DynaPILCO
from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.imagination import learner
from tests.agent.conftest import STEPS, build

TINY = {"num_envs": 8, "least_updates": 6, "updates_per_step": 0.1, "updates_at_once": 2, "prefill": 2, "rounds": 1}
NETS = {"policy_kwargs": {"net_arch": [16]}}
KWARGS = {"sac": {"batch_size": 16}, "td3": {}, "ddpg": {}, "dqn": {}, "ppo": {"n_epochs": 1}, "a2c": {}}


def imagining(name="sac", env=None, seed=0, **changes):
    options = {**NETS, **KWARGS[name], **changes.pop("controller_kwargs", {})}
    imagination = {**TINY, **changes.pop("imagination", {})}
    where = () if env is None else (env,)
    return build(*where, seed=seed, controller=name, imagination=imagination, controller_kwargs=options, **changes)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_one_seed_one_run_and_a_resumed_run_is_the_run(name, tmp_path):
    torch.rand(3)  # whatever happened to global generators before
    whole = imagining(name).learn(4 * STEPS)
    np.random.rand(5)
    half = imagining(name).learn(3 * STEPS)
    half.save(tmp_path / "x")
    assert not list((tmp_path / "x").glob("*.zip")) + list((tmp_path / "x").glob("*.pkl"))
    loaded = DynaPILCO.load(tmp_path / "x")
    observations = loaded.env.reset()
    assert np.array_equal(loaded.predict(observations)[0], half.predict(observations)[0])
    resumed = loaded.learn(STEPS, reset_num_timesteps=False)
    assert [row.ret for row in resumed.history] == [row.ret for row in whole.history]
    assert resumed.history[-1].predicted_return == whole.history[-1].predicted_return
    assert same(resumed.loop.state.control, whole.loop.state.control)
    assert resumed.evaluate(2).returns == whole.evaluate(2).returns
    assert not same(half.loop.state.control, whole.loop.state.control)
    assert imagining(name, seed=1).learn(2 * STEPS).history[-1].ret != whole.history[1].ret


@pytest.mark.parametrize("name", ["td3", "ddpg", "a2c"])
def test_every_algorithm_for_boxes(name):
    agent = imagining(name).learn(2 * STEPS)
    row = agent.history[-1]
    assert row.predicted_return is not None
    assert 0 <= row.coverage_95_horizon <= 1
    assert np.abs(agent.predict(agent.env.reset())[0]).max() <= 10


@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_discrete_actions(name):
    agent = imagining(name, env="CartPole-v1").learn(70)
    assert agent.predict(agent.env.reset())[0].tolist() in ([0], [1])
    assert set(np.unique(agent.loop.state.data.actions.numpy())) == {0.0, 1.0}
    again = imagining(name, env="CartPole-v1").learn(70)
    assert [row.ret for row in again.history] == [row.ret for row in agent.history]


def test_nothing_global_is_touched():
    agent = imagining().learn(STEPS)
    before, outside = torch.get_rng_state(), np.random.get_state()
    agent.learn(STEPS, reset_num_timesteps=False)
    agent.predict(agent.env.reset())
    assert torch.equal(torch.get_rng_state(), before)
    after = np.random.get_state()
    assert np.array_equal(after[1], outside[1])
    assert after[2:] == outside[2:]


def test_real_trials_explore_unless_told_not_to():
    agent = imagining(imagination={"explore": False}).learn(2 * STEPS)
    data = agent.loop.state.data
    states = data.states[data.trials == 1]
    expected, _ = agent.predict(states.numpy(), deterministic=True)
    np.testing.assert_allclose(data.actions[data.trials == 1].numpy(), expected, atol=1e-4)
    noisy = imagining().learn(2 * STEPS).loop.state.data
    assert not torch.equal(noisy.actions, data.actions)


def test_a_trial_that_is_stopped_leaves_the_agent_as_it_was():
    agent = imagining().learn(2 * STEPS)
    before = {k: v.clone() for k, v in agent.loop.state.control.items()}
    observations = agent.env.reset()
    action = agent.predict(observations)[0]
    agent.learn(STEPS, callback=lambda local, _: False, reset_num_timesteps=False)
    assert len(agent.history) == 2
    assert same(agent.loop.state.control, before)
    assert np.array_equal(agent.predict(observations)[0], action)


@pytest.mark.parametrize("checks", [20, 1])  # found by a look at the agent, or by torch refusing its numbers
def test_numbers_that_go_bad_are_counted_said_and_undone(monkeypatch, checks):
    said = []

    class Sink:
        def __getattr__(self, _):
            return lambda *args: None

        def message(self, text):
            said.append(text)

    agent = imagining(imagination={"least_updates": 12}).learn(STEPS)
    monkeypatch.setattr(learner, "CHECKS", checks)
    agent.attach(sinks=[Sink()])
    train = learner.algorithm_class("sac").train
    calls = []

    def poisoned(self, *args, **kwargs):
        train(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == 2:
            with torch.no_grad():
                next(self.actor.parameters()).fill_(torch.nan)

    monkeypatch.setattr(learner.algorithm_class("sac"), "train", poisoned)
    agent.learn(STEPS, reset_num_timesteps=False)
    assert len(calls) >= 5
    assert agent.history[-1].nan_rollouts == 1
    assert any("not finite" in text for text in said)
    assert all(torch.isfinite(value).all() for value in agent.loop.state.control.values())


def test_what_is_refused():
    with pytest.raises(UserError, match="did you mean learning_rate"):
        imagining(controller_kwargs={"learning_rat": 1e-3})
    with pytest.raises(UserError, match="the section imagination decides it"):
        imagining(controller_kwargs={"gradient_steps": 4})
    with pytest.raises(UserError, match="Discrete"):
        imagining("dqn")
    with pytest.raises(UserError, match="dqn, ppo, a2c"):
        imagining("sac", env="CartPole-v1")
    with pytest.raises(UserError, match="sac, td3"):
        build(controller_kwargs={"gamma": 0.9})
    with pytest.raises(UserError, match="stable-baselines3 refuses"):
        imagining(controller_kwargs={"ent_coef": "much"})
    with pytest.raises(UserError, match="real_share"):
        imagining(imagination={"real_share": 2.0})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sac", {"learning_rate": "fast"}, "controller_kwargs.learning_rate='fast': sac expected a finite number"),
        ("sac", {"learning_rate": float("nan")}, "learning_rate=nan: sac expected"),
        ("sac", {"batch_size": -1}, "batch_size=-1: sac expected a whole number of at least 1"),
        ("sac", {"batch_size": 2.5}, "batch_size=2.5"), ("sac", {"buffer_size": 0}, "buffer_size=0"),
        ("td3", {"tau": 2.0}, "tau=2.0: td3 expected a number from 0 to 1"), ("td3", {"gamma": True}, "gamma=True"),
        ("td3", {"policy_delay": 0}, "policy_delay=0"), ("td3", {"target_policy_noise": -1}, "target_policy_noise=-1"),
        ("ppo", {"batch_size": 1}, "stable-baselines3 refuses these options of ppo"),
        ("ppo", {"n_epochs": 0}, "n_epochs=0"), ("ppo", {"clip_range": "wide"}, "clip_range='wide'"),
        ("ppo", {"normalize_advantage": 1}, "normalize_advantage=1: ppo expected true or false"),
        ("a2c", {"ent_coef": -0.1}, "ent_coef=-0.1"), ("a2c", {"rms_prop_eps": 0}, "rms_prop_eps=0"),
        ("a2c", {"policy_kwargs": [64]}, r"policy_kwargs=\[64\]: a2c expected a table"),
        ("sac", {"policy_kwargs": {"net_arch": "big"}}, "stable-baselines3 refuses these options of sac, {.*'big'"),
        ("sac", {"policy_kwargs": {"net_arch": [-3]}}, "stable-baselines3 refuses these options of sac"),
        ("sac", {"policy_kwargs": {"n_critics": "two"}}, "stable-baselines3 refuses these options of sac"),
        ("ppo", {"policy_kwargs": {"optimizer_kwargs": {"betas": "ab"}}}, "stable-baselines3 refuses these options"),
        ("sac", {"target_entropy": "low"}, "stable-baselines3 refuses these options of sac"),
    ],
)  # fmt: skip
def test_values_that_would_fail_in_the_middle_of_a_run(name, options, words):
    before = torch.get_rng_state()
    with pytest.raises(UserError, match=words):
        build(controller=name, imagination=TINY, controller_kwargs=options)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg", "ppo", "a2c"])
def test_defaults_and_schedules_pass_the_rehearsal(name):
    schedule = {"learning_rate": lambda remaining: 1e-3 * remaining}
    assert build(controller=name, imagination=TINY, controller_kwargs=schedule).history == []
    given = {k: v for k, v in learner.algorithm_options(name).items() if k != "buffer_size"}
    assert build(controller=name, imagination=TINY, controller_kwargs=given).history == []


def test_a_saved_agent_of_another_shape(tmp_path):
    agent = imagining().learn(2 * STEPS)
    state = agent.loop.state
    state.control = {k: v for k, v in state.control.items() if "critic" not in k}
    agent.save(tmp_path / "x")
    with pytest.raises(CheckpointError, match="does not fit SAC"):
        DynaPILCO.load(tmp_path / "x")
