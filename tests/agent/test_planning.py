"""Agents that plan: they learn, repeat, resume, are saved and evaluated as the others are."""

import numpy as np
import pytest

from dynapilco import DynaPILCO
from dynapilco.core.errors import UserError
from dynapilco.tracking.console import trial_line
from tests.agent.conftest import STEPS, build

SMALL = {"horizon": 4, "population": 12, "iterations": 2, "draws": 2, "particles": 1}


def planning(controller="cem", **changes):
    return build(controller=controller, planning={**SMALL, **changes}, seed=0)


def test_trials_of_a_planner(tmp_path):
    agent = planning().learn(3 * STEPS)
    rows = agent.history
    assert len(rows) == 3
    assert all(row.predicted_return is None and row.coverage_95_one_step is not None for row in rows[1:])
    assert all(row.nan_rollouts == 0 for row in rows[1:])
    assert [row.explored for row in rows] == [True, False, False]
    assert "planned" in trial_line(rows[1])
    assert agent.delivered_trial is None
    again = planning().learn(3 * STEPS)
    assert [row.ret for row in again.history] == [row.ret for row in rows]
    other = planning("icem").learn(2 * STEPS)
    assert other.history[1].ret != rows[1].ret


def test_a_resumed_run_is_the_run(tmp_path):
    whole = planning().learn(3 * STEPS)
    half = planning().learn(2 * STEPS)
    half.save(tmp_path / "x")
    resumed = DynaPILCO.load(tmp_path / "x").learn(STEPS, reset_num_timesteps=False)
    assert resumed.config.controller == "cem"
    assert resumed.history[-1].ret == whole.history[-1].ret
    assert resumed.evaluate(2).returns == whole.evaluate(2).returns


def test_it_acts_through_predict():
    agent = planning().learn(2 * STEPS)
    observation = agent.env.reset()
    action, _ = agent.predict(observation)
    assert action.shape == (1, 1)
    assert np.abs(action).max() <= 10
    several, _ = agent.predict(np.repeat(observation, 3, 0))
    assert several.shape == (3, 1)


def test_before_a_model_a_planner_acts_at_random():
    act = planning().loop.delivered_controller("evaluation")
    taken = [float(act(np.zeros(4, np.float32), step)[0]) for step in range(5)]
    assert len(set(taken)) == 5
    assert all(-10 <= action <= 10 for action in taken)


def test_discrete_actions():
    agent = build("CartPole-v1", controller="icem", planning=SMALL, seed=0)
    agent.learn(30)
    assert agent.history[-1].env_steps >= 30
    action, _ = agent.predict(agent.env.reset())
    assert action.tolist() in ([0], [1])
    assert set(np.unique(agent.loop.state.data.actions.numpy())) == {0.0, 1.0}
    assert len(agent.evaluate(2).returns) == 2


def test_a_policy_of_choices_learns_and_predicts():
    agent = build("CartPole-v1", seed=0)
    agent.learn(60)
    assert agent.history[-1].predicted_return is not None
    action, _ = agent.predict(agent.env.reset())
    assert action.tolist() in ([0], [1])


def test_an_unknown_controller():
    with pytest.raises(UserError, match="did you mean icem"):
        build(controller="icemm")
