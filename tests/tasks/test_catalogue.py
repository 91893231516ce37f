"""Known rewards and ends of Gymnasium's environments equal what the environments say, step by step."""

import gymnasium
import numpy as np
import pytest
import torch

from dynapilco.tasks import make_env, task_of
from dynapilco.tasks.known import known_ids

CLASSIC = ("Pendulum-v1", "CartPole-v1", "Acrobot-v1", "MountainCarContinuous-v0")
MUJOCO = (
    "InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Reacher-v5", "Pusher-v5", "HalfCheetah-v5", "Swimmer-v5",
    "Hopper-v5", "Walker2d-v5",
)  # fmt: skip
STEPS = 2_000
LOOSE = {"InvertedDoublePendulum-v5": 1e-3}
EASY = {"InvertedDoublePendulum-v5": 0.1, "Hopper-v5": 0.3, "Walker2d-v5": 0.3}
"""Share of the action range: falling fast means clipped velocities, which the observation does not hold."""


def walk(name, steps, share, **kwargs):
    """Flat transitions of random actions, some held for a while, over many episodes."""
    if name in MUJOCO:
        pytest.importorskip("mujoco")
    env = make_env(name, kwargs)
    task = task_of(env)
    flat, rng = task.flat(env), np.random.default_rng(0)
    rows, observation = [], flat.reset(seed=0)[0]
    middle, half = (task.high + task.low) / 2, (task.high - task.low) / 2
    vector = middle
    for step in range(steps):
        if step % int(rng.integers(1, 8)) == 0:
            vector = task.codec.canonical(middle + share * half * rng.uniform(-1, 1, len(middle)).astype(np.float32))
        after, reward, ended, cut, _ = flat.step(vector)
        rows.append((observation, vector, after, reward, ended))
        observation = flat.reset(seed=step)[0] if ended or cut else after
    return task, [np.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", CLASSIC + MUJOCO)
def test_rewards_and_ends_equal_those_of_the_environment(name):
    task, (x, u, y, reward, ended) = walk(name, STEPS, EASY.get(name, 1.0))
    kept = np.abs(y[:, 5:8]).max(1) < 10 if "Double" in name else slice(None)
    x, u, y, reward, ended = (column[kept] for column in (x, u, y, reward, ended))
    assert len(reward) > 0.5 * STEPS
    np.testing.assert_allclose(task.reward(x, u, y, np), reward, atol=LOOSE.get(name, 1e-5), rtol=1e-5)
    tensors = (torch.as_tensor(column, dtype=torch.float64) for column in (x, u, y))
    np.testing.assert_allclose(task.reward(*tensors, torch).numpy(), reward, atol=LOOSE.get(name, 1e-5), rtol=1e-5)
    if task.ends:
        assert np.array_equal(task.ended(x, u, y, np), ended)
        assert ended.any() or name in ("Acrobot-v1", "MountainCarContinuous-v0")
    else:
        assert not ended.any()


def test_every_known_environment_is_compared():
    older = {"CartPole-v0", "InvertedPendulum-v4"}  # the same code as their later versions
    assert set(known_ids()) == {*CLASSIC, *MUJOCO, *older}


def test_arriving_at_the_flag_is_known():
    """Full force with the velocity: the car swings up and arrives."""
    env = make_env("MountainCarContinuous-v0")
    task = task_of(env)
    flat = task.flat(env)
    x, total = flat.reset(seed=0)[0], 0.0
    for _ in range(400):
        u = np.sign(x[1:2] + 1e-9).astype(np.float32)
        y, reward, ended, _, _ = flat.step(u)
        assert float(task.reward(x, u, y, np)) == pytest.approx(reward, abs=1e-5)
        assert bool(task.ended(x, u, y, np)) == ended
        total, x = total + reward, y
        if ended:
            break
    assert ended
    assert total > 80


def test_swinging_up_an_acrobot_is_known():
    env = make_env("Acrobot-v1")
    task = task_of(env)
    flat = task.flat(env)
    x = flat.reset(seed=0)[0]
    for _ in range(400):
        u = np.eye(3, dtype=np.float32)[0 if x[4] > 0 else 2]
        y, reward, ended, _, _ = flat.step(u)
        assert float(task.reward(x, u, y, np)) == reward
        assert bool(task.ended(x, u, y, np)) == ended
        x = y
        if ended:
            break
    assert ended


def test_the_position_in_the_observation_changes_nothing():
    task, (x, u, y, reward, ended) = walk("Hopper-v5", 300, 0.3, exclude_current_positions_from_observation=False)
    np.testing.assert_allclose(task.reward(x, u, y, np), reward, atol=1e-5)
    assert np.array_equal(task.ended(x, u, y, np), ended)
    np.testing.assert_allclose(y[:, -1], y[:, 0] - x[:, 0], atol=1e-12)


def test_options_of_the_environment_count():
    task, (x, u, y, reward, ended) = walk("Hopper-v5", 300, 0.3, terminate_when_unhealthy=False, healthy_reward=3.0)
    assert not task.ends
    assert not ended.any()
    np.testing.assert_allclose(task.reward(x, u, y, np), reward, atol=1e-5)


def test_where_the_default_observation_is_not_enough_the_gauge_is_a_column():
    pytest.importorskip("mujoco")
    task = task_of(gymnasium.make("HalfCheetah-v5"))
    assert task.learned == ("root_dx",)
    assert task.geometry.unseen == (17,)
    assert task.names[-1] == "root_dx"
