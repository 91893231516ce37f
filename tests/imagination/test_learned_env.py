"""The model as an environment: both faces, autoreset, and what each environment follows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from dynapilco import DynaPILCO
from dynapilco.core.errors import UserError
from dynapilco.imagination import LearnedVecEnv, LearnedVectorEnv
from tests.agent.conftest import CART, STEPS, build
from tests.planning.test_planner import FORCES, GEOMETRY, make_draw, make_task

SPACE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def make(count=7, task=None, noise=0.0, **kwargs):
    task = replace(task or make_task(), start_std=torch.tensor([0.1, 0.0]))
    draw = make_draw(task.geometry, FORCES if task.geometry.choices else None, noise, 0.5)
    return LearnedVectorEnv(task, draw, SPACE, count, **kwargs)


def test_every_environment_follows_its_function():
    env = make(7)
    start, _ = env.reset(seed=3)
    assert env.observation_space.contains(start)
    actions = np.linspace(-2, 2, 7, dtype=np.float32)[:, None]
    after, rewards, ended, cut, info = env.step(actions)
    strength = np.array([0.5, 1.0, 1.5])[np.arange(7) % 3]
    np.testing.assert_allclose(after[:, 1], start[:, 1] + 0.2 * strength * actions[:, 0], atol=1e-6)
    np.testing.assert_allclose(
        after[:, 0], start[:, 0] + 0.2 * start[:, 1] + 0.02 * strength * actions[:, 0], atol=1e-6
    )
    expected = env.task.reward(*(torch.as_tensor(a) for a in (start, actions, after)), torch)
    np.testing.assert_allclose(rewards, expected, rtol=1e-5)
    assert not (ended.any() or cut.any() or info)


def test_functions_dealt_anew_at_every_step():
    env = make(3000, follow="step")
    env.reset(seed=0)
    seen = []
    for _ in range(2):
        before = env.states.clone()
        env.step(np.ones((3000, 1), np.float32))
        seen.append(((env.states[:, 1] - before[:, 1]) / 0.2).round(decimals=2))
    for strength in (0.5, 1.0, 1.5):
        assert ((seen[0] == strength).float().mean() - 1 / 3).abs() < 0.05
    assert ((seen[0] == seen[1]).float().mean() - 1 / 3).abs() < 0.05


def test_same_step_autoreset_by_time_and_by_end():
    task = make_task(margin=lambda x, u, y, xp: 0.3 - y[..., 0])
    env = make(6, task, horizon=4)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset(seed=0)
    actions = np.array([[-2.0], [2.0]] * 3, np.float32)
    ends, cuts = np.zeros(6), np.zeros(6)
    for step in range(1, 5):
        observations, _, ended, cut, info = env.step(actions)
        ends, cuts = ends + ended, cuts + cut
        assert not (ended & cut).any()
        for i in np.flatnonzero(ended | cut):
            assert info["_final_obs"][i]
            assert (info["final_obs"][i][0] >= 0.3) == bool(ended[i])
            assert abs(observations[i][1]) == 0  # a new start: no velocity
            assert env.steps[i] == 0
        assert step < 4 or (ended | cut).any()
    assert ends[1::2].sum() >= 1
    assert ends[::2].sum() == 0
    assert (cuts[::2] == 1).all()


def test_a_seed_repeats_everything():
    def run(seed):
        env = make(5, noise=0.1)
        env.reset(seed=seed)
        return [env.step(np.full((5, 1), 0.3, np.float32))[0] for _ in range(4)]

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_numbers_that_go_bad_end_the_episode_and_are_counted():
    task = make_task(lambda x, u, y, xp: xp.where(u[..., 0] > 1, xp.nan * u[..., 0], y[..., 0]))
    env = make(4, task)
    env.reset(seed=0)
    observations, rewards, ended, cut, _ = env.step(np.array([[0.0], [2.0], [0.0], [2.0]], np.float32))
    assert np.isfinite(observations).all()
    assert np.isfinite(rewards).all()
    assert cut.tolist() == [False, True, False, True]
    assert not ended.any()
    assert env.bad == 2


def test_states_stay_inside_bounds():
    env = make(3, bounds=(torch.tensor([-5.0, -0.1]), torch.tensor([5.0, 0.1])))
    env.reset(seed=0)
    after = env.step(np.array([[2.0], [-2.0], [0.0]], np.float32))[0]
    np.testing.assert_allclose(after[:, 1], [0.1, -0.1, 0.0], atol=1e-6)


def test_discrete_actions():
    geometry = replace(GEOMETRY, actions=3, choices=(3,))
    env = make(4, make_task(geometry=geometry, space=spaces.Discrete(3)))
    env.reset(seed=0)
    assert env.action_space.contains(np.array([0, 1, 2, 1]))
    after = env.step(np.array([0, 1, 2, 1]))[0]
    assert np.sign(after[:, 1]).tolist() == [-1, 0, 1, 0]


def test_the_face_of_stable_baselines3():
    env = LearnedVecEnv(make(6, horizon=3))
    env.seed(4)
    first = env.reset()
    env.seed(4)
    assert np.array_equal(env.reset(), first)
    assert env.num_envs == 6
    for step in range(1, 4):
        _, rewards, dones, infos = env.step(np.zeros((6, 1), np.float32))
        assert rewards.dtype == np.float32
        assert dones.all() == (step == 3)
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert all(info["terminal_observation"].shape == (2,) for info in infos)
    assert env.get_attr("horizon") == [3] * 6
    assert env.env_is_wrapped(VecMonitor) == [False] * 6


def test_an_agent_of_stable_baselines3_learns_in_it():
    env = VecMonitor(LearnedVecEnv(make(32, horizon=10)))
    agent = PPO("MlpPolicy", env, n_steps=20, batch_size=160, n_epochs=8, learning_rate=3e-3, seed=0, device="cpu")
    before = np.mean([_earn(agent, make(32, horizon=10)) for _ in range(2)])
    agent.learn(12_000)
    after = np.mean([_earn(agent, make(32, horizon=10)) for _ in range(2)])
    assert after > before + 1.0


def _earn(agent, env):
    observations, total = env.reset(seed=9)[0], 0.0
    for _ in range(10):
        actions, _ = agent.predict(observations, deterministic=True)
        observations, rewards, *_ = env.step(actions)
        total += rewards.mean()
    return total


def test_the_model_of_an_agent():
    agent = build().learn(2 * STEPS)
    env = agent.imagine(50)
    observations, _ = env.reset(seed=0)
    assert env.single_observation_space == agent.observation_space
    assert observations.shape == (50, 4)
    assert env.horizon == STEPS
    for _ in range(3):
        observations, rewards, *_ = env.step(env.action_space.sample())
    assert np.isfinite(rewards).all()
    branched = agent.imagine(20, horizon=5)
    starts, _ = branched.reset(seed=0)
    visited = agent.loop.state.data.states.numpy()
    assert all((np.abs(visited - row).sum(1) < 1e-5).any() for row in starts)


def test_what_is_refused():
    with pytest.raises(UserError, match="no model yet"):
        build().imagine(4)
    agent = build().learn(2 * STEPS)
    with pytest.raises(UserError, match="starts"):
        agent.imagine(4, starts="rest")
    with pytest.raises(UserError, match="follow='both'"):
        agent.imagine(4, follow="both")
    with pytest.raises(UserError, match="num_envs=0"):
        agent.imagine(0)
    assert isinstance(DynaPILCO("mlp", CART, seed=0), DynaPILCO)
