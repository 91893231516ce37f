"""What is read off an environment, and what is refused."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

import dynapilco_envs
from dynapilco.core.errors import UserError
from dynapilco.tasks import make_env, task_of

CART = "dynapilco/CartPoleSwingUp-v0"
IDS = [f"dynapilco/{task.__name__}-v0" for task in dynapilco_envs.TASKS]


class Third(gymnasium.Env):
    """An environment of somebody else: no names, no dt, no start distribution."""

    def __init__(self, observation=None, action=None, horizon=20):
        self.observation_space = observation or spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = action or spaces.Box(-1, 2, (2,), np.float32)
        self.horizon = horizon

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return (self.np_random.standard_normal(3) * [1, 0, 2] + [0, 5, -1]).astype(np.float32), {}

    @staticmethod
    def reward(state, action, next_state, xp):
        return -(next_state**2).sum(-1)


def box(*shape, high=1.0):
    return spaces.Box(-high, high, shape, np.float32)


@pytest.mark.parametrize("name", IDS)
def test_our_environments(name):
    env = gymnasium.make(name)
    task, base = task_of(env), env.unwrapped
    d, m = env.observation_space.shape[0], env.action_space.shape[0]
    assert (task.geometry.states, task.geometry.actions) == (d, m)
    assert task.geometry.angles == base.angle_indices
    assert task.geometry.pairs == base.position_velocity_pairs
    assert task.dt == base.dt
    assert task.horizon == base.horizon == env.spec.max_episode_steps
    np.testing.assert_array_equal(task.low, env.action_space.low)
    np.testing.assert_array_equal(task.high, env.action_space.high)
    assert len(task.names) == len(task.units) == d
    assert len(task.action_names) == len(task.action_units) == m
    torch.testing.assert_close(task.start_std, torch.tensor(base.start_std, dtype=torch.float32))
    assert task.start_mean.abs().max() == 0


@pytest.mark.parametrize("name", IDS)
def test_rewards_in_torch_equal_those_of_the_environment(name):
    env = gymnasium.make(name)
    task = task_of(env)
    state, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(15):
        action = rng.uniform(task.low, task.high).astype(np.float32)
        moved, reward, _, _, info = env.step(action)
        parts = (torch.as_tensor(part) for part in (state, action, info["state"]))
        assert float(task.reward(*parts, torch)) == pytest.approx(reward, rel=1e-5)
        state = moved


def test_start_states_have_the_moments_of_the_task():
    task = task_of(gymnasium.make("dynapilco/CartPoleSwingUpPILCO-v0"))
    start = task.sample_start((40, 50), torch.Generator().manual_seed(0))
    assert start.shape == (40, 50, 4)
    assert start.dtype == torch.float32
    torch.testing.assert_close(start.flatten(0, 1).std(0), task.start_std, rtol=0.1, atol=0)


def test_an_environment_of_somebody_else():
    task = task_of(Third())
    assert task.geometry.angles == task.geometry.pairs == ()
    assert task.dt is None
    assert task.success is None
    assert task.horizon == 20
    assert task.names == ("s0", "s1", "s2")
    assert task.action_names == ("u0", "u1")
    torch.testing.assert_close(task.start_mean, torch.tensor([0.0, 5.0, -1.0]), atol=0.8, rtol=0)
    torch.testing.assert_close(task.start_std, torch.tensor([1.0, 0.0, 2.0]), rtol=0.3, atol=1e-6)


def test_the_time_limit_of_the_spec_counts():
    env = gymnasium.make(CART, max_episode_steps=27)
    assert task_of(env).horizon == 27
    with pytest.raises(UserError, match=r"its success fails on states .18, 4.*T at least 20"):  # before any work
        task_of(gymnasium.make(CART, max_episode_steps=17))


class Silent(Third):
    reward = 0.5  # the last reward, as some keep it


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (lambda: Third(observation=spaces.Dict(x=box(3))), "'Third': observation space Dict.*FlattenObservation"),
        (lambda: Third(observation=spaces.Box(0, 255, (8, 8, 3), np.uint8)), "holds pixels"),
        (lambda: Third(observation=spaces.Discrete(4)), "observation space Discrete"),
        (lambda: Third(action=spaces.MultiBinary(2)), "action space MultiBinary.*expected Box, Discrete or MultiDi"),
        (lambda: Third(action=spaces.Box(0, 3, (2,), np.int64)), "floating"),
        (lambda: Third(action=box(2, high=np.inf)), "unbounded"),
        (lambda: Third(horizon=None), "no time limit"),
    ],
)
def test_what_is_refused(env, words):
    with pytest.raises(UserError, match=words):
        task_of(env())


def test_a_time_limit_wrapper_is_found():
    assert task_of(TimeLimit(Third(horizon=None), 30)).horizon == 30


def test_made_environments():
    env = make_env(CART, {"friction": 0.0}, "rgb_array")
    assert env.unwrapped.friction == 0
    assert env.render_mode == "rgb_array"
    assert make_env(f"dynapilco_envs:{CART}").spec.id == CART


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("dynapilco/CartPoleSwingUP-v0", {}, "did you mean dynapilco/CartPoleSwingUp-v0"),
        ("dynapilco/CartPoleSwingUp-v7", {}, "dynapilco/CartPoleSwingUp-v"),
        ("nonsense", {}, "expected a registered Gymnasium id, e.g. dynapilco/"),
        ("nowhere_at_all:Env-v0", {}, "module 'nowhere_at_all' is not installed"),
        ("", {}, "environment"),
        (CART, {"no_such_option": 1}, "does not take these options"),
        (CART, {"friction": -1}, "friction is -1"),
    ],
)
def test_environments_that_cannot_be_made(name, kwargs, words):
    with pytest.raises(UserError, match=words) as caught:
        make_env(name, kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env_id", "bounds"),
    [
        ("Pendulum-v1", ((-1, 1), (-1, 1), (-8, 8))),
        ("CartPole-v1", ((-4.8, 4.8), (-np.inf, np.inf), (-0.41887903, 0.41887903), (-np.inf, np.inf))),
        ("dynapilco/CartPoleSwingUp-v0", ()),
        ("InvertedPendulum-v5", ()),
    ],
)
def test_bounds_are_those_that_the_environment_states(env_id, bounds):
    found = task_of(make_env(env_id)).geometry.bounds
    assert len(found) == len(bounds)
    np.testing.assert_allclose(np.asarray(found), np.asarray(bounds), rtol=1e-6)


def test_learned_columns_have_no_bounds():
    found = task_of(Silent(observation=box(3, high=2.0))).geometry.bounds
    assert found[:3] == ((-2.0, 2.0),) * 3
    assert found[3:] == ((-np.inf, np.inf),) * 2
