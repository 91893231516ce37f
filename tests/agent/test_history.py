"""An agent with a history: a pendulum whose velocity is not observed."""

import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from dynapilco import DynaPILCO
from dynapilco.agent.episode import run_episode
from dynapilco.agent.excitation import excitation
from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.dynamics import DynamicsConfig, DynamicsModel, Transitions
from dynapilco.inference import make_method
from dynapilco.tasks import task_of, with_history
from tests.agent.hidden import HiddenPendulum, tip
from tests.agent.test_misbehaviour import SETTINGS


def lasting(state, action, after, xp):
    return xp.ones_like(after[..., 0])


def agent(k=2, seed=0, **changes):
    return DynaPILCO(
        "mlp", HiddenPendulum(), seed=seed, history=k, reward=tip, margin=lasting, **{**SETTINGS, **changes}
    )


def one_step_error(k):
    """Root mean square error of the next observation on an episode that the model has not seen."""
    env = HiddenPendulum()
    task = with_history(task_of(env, reward=tip, margin=lasting), k)
    flat, episodes = task.flat(env), []
    for seed in range(3):
        actions = excitation("multisine", 40, task.low, task.high, 0.1, np.random.default_rng(seed))
        episode = run_episode(flat, lambda _, step, actions=actions: actions[step], seed, 40)
        tensors = (torch.as_tensor(part, dtype=torch.float32) for part in (episode.observations, episode.actions))
        episodes.append(Transitions.of_episode(*tensors, torch.zeros(40), seed))
    method = make_method("ensemble", {"members": 3, "cold_steps": 400})
    model = DynamicsModel(task.geometry, DynamicsConfig(), method, torch.device("cpu"))
    model.fit(episodes[0].append(episodes[1]), torch.Generator().manual_seed(0))
    draw, test = model.draw(20, torch.Generator().manual_seed(1)), episodes[2]
    x, u = (t.expand(1, 20, *t.shape) for t in (test.states, test.actions))
    return float((draw.step(x, u)[0].mean(0) - test.next_states)[:, :2].square().mean().sqrt())


def test_two_observations_tell_the_velocity_that_one_does_not():
    errors = [one_step_error(k) for k in (1, 2)]
    assert errors[1] < errors[0] / 2.5, errors


def test_predict_remembers_as_a_trial_does(tmp_path):
    a = agent().learn(80)
    assert all(row.disagreements == 0 for row in a.history)
    assert a.loop.state.data.states.shape == (80, 3)  # the angle, as it was a step ago, and the action
    returns = a.evaluate(3).returns
    flat = a.task.flat(HiddenPendulum())
    wanted = run_episode(flat, a.loop.delivered_controller("evaluation"), 7, 40)
    env, state, seen = HiddenPendulum(), None, []
    observation = env.reset(seed=7)[0]
    for _ in range(40):
        action, state = a.predict(observation, state)
        seen.append(action)
        observation = env.step(action)[0]
    np.testing.assert_allclose(np.stack(seen), wanted.actions, atol=1e-5)
    a.save(tmp_path)
    back = DynaPILCO.load(tmp_path, HiddenPendulum(), device="cpu", reward=tip, margin=lasting)
    assert back.config.history == 2
    assert back.evaluate(3).returns == returns


def test_stable_baselines_evaluation_hands_the_state_over():
    a = agent().learn(80)
    returns, lengths = evaluate_policy(a, Monitor(TimeLimit(HiddenPendulum(), 40)), 2, return_episode_rewards=True)
    assert lengths == [40, 40]
    assert np.isfinite(returns).all()
    two = np.stack([HiddenPendulum._see(np.array([angle, 0.0])) for angle in (0.1, 2.0)])
    first, state = a.predict(two)
    again, _ = a.predict(two, state, np.array([True, True]))
    np.testing.assert_array_equal(first, again)
    mixed, _ = a.predict(two[::-1].copy(), state, np.array([True, False]))
    fresh, _ = a.predict(two[1])
    np.testing.assert_allclose(mixed[0], fresh, atol=1e-6)
    assert mixed.shape == (2, 1)
    assert abs(mixed[1] - a.predict(two[0])[0]) > 1e-6  # it remembers another observation


@pytest.mark.parametrize("controller", ["pathwise", "cem", "sac", "ppo"])
def test_every_controller_takes_stacks(controller):
    planning = {"horizon": 4, "population": 8, "iterations": 1}
    imagination = {"num_envs": 4, "least_updates": 2, "prefill": 2, "rounds": 1, "updates_per_step": 0.1}
    options = {"ppo": {"n_steps": 8, "batch_size": 16, "n_epochs": 1}}.get(controller, {})
    a = agent(3, controller=controller, planning=planning, imagination=imagination, controller_kwargs=options).learn(80)
    assert len(a.history) == 2
    assert np.isfinite([row.ret for row in a.history]).all()
    imagined = a.imagine(2)
    assert imagined.reset(seed=0)[0].shape == (2, 2)
    assert imagined.step(np.zeros((2, 1)))[0].shape == (2, 2)


def test_the_word_is_checked(tmp_path):
    with pytest.raises(UserError, match="history=0: expected 1"):
        agent(0)
    agent(1).learn(40).save(tmp_path)
    with pytest.raises(CheckpointError, match="reward="):
        DynaPILCO.load(tmp_path, HiddenPendulum(), device="cpu")
