"""States that stack observations and actions: layout, shift, functions of the last observation, both engines."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dynapilco.core.errors import UserError
from dynapilco.dynamics import DynamicsConfig, DynamicsModel, Geometry, Transitions, make_stepping
from dynapilco.inference import make_method
from dynapilco.policies import make_policy
from dynapilco.rollout import Simulator, fused, sample_noise, step_rewards
from dynapilco.tasks import make_env, task_of, with_history


class Hidden(gymnasium.Env):
    """A mass on a track, whose velocity is not observed; it says nothing of itself."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(2.0, 4.0, (1,), np.float32)
    horizon = 12

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(0, 1, 2)
        return self.x[:1].astype(np.float32), {}

    def step(self, action):
        self.x = np.array([self.x[0] + 0.1 * self.x[1], self.x[1] + 0.5 * (float(action[0]) - 3)])
        return self.x[:1].astype(np.float32), float(self.x[0]), False, False, {}


class Choosing(Hidden):
    action_space = spaces.Discrete(3)

    def step(self, action):
        return super().step([action + 2.0])


def episode(task, env, steps=8):
    flat, rng = task.flat(env), np.random.default_rng(0)
    states, actions = [flat.reset(seed=3)[0]], []
    for _ in range(steps):
        actions.append(flat.codec.canonical(rng.uniform(task.low, task.high).astype(np.float32)))
        states.append(flat.step(actions[-1])[0])
    return np.stack(states), np.stack(actions)


@pytest.mark.parametrize("kind", [Hidden, Choosing])
@pytest.mark.parametrize("k", [2, 3])
def test_a_stack_holds_what_was(kind, k):
    plain = task_of(kind())
    task = with_history(plain, k)
    m = task.geometry.actions
    assert task.geometry.states == k + (k - 1) * m + 2
    assert len(task.names) == len(task.units) == task.geometry.states
    once, actions = episode(plain, kind())
    states, _ = episode(task, kind())
    for t in range(len(states)):
        seen = [once[max(t - lag, 0), 0] for lag in range(k)]
        rest = np.zeros(m) if kind is Choosing else np.full(m, 3.0)
        done = [actions[t - lag] if t >= lag else rest for lag in range(1, k)]
        np.testing.assert_allclose(states[t], np.concatenate([seen, *done, once[t, 1:]]), rtol=1e-6)


@pytest.mark.parametrize("kind", [Hidden, Choosing])
def test_the_stepping_shifts_exactly_and_predicts_the_present_alone(kind):
    task = with_history(task_of(kind()), 3)
    geometry, stepping = task.geometry, make_stepping(task.geometry, "auto")
    assert stepping.columns == tuple(geometry.present) == (0, geometry.states - 2, geometry.states - 1)
    assert geometry.lasting == [0]
    states, actions = (torch.as_tensor(part, dtype=torch.float32) for part in episode(task, kind()))
    outputs = stepping.targets(states[:-1], states[1:])
    assert outputs.shape == (8, 3)
    torch.testing.assert_close(stepping.advance(states[:-1], outputs, actions), states[1:], atol=1e-6, rtol=1e-5)


def test_pairs_and_angles_are_those_of_each_observation():
    task = with_history(task_of(make_env("dynapilco/CartPoleSwingUp-v0")), 2)
    assert task.geometry.angles == (2, 6)
    assert task.names[4:9] == ("x 1 ago", "x_dot 1 ago", "theta 1 ago", "theta_dot 1 ago", "force 1 ago")
    states, actions = (
        torch.as_tensor(part, dtype=torch.float32) for part in episode(task, make_env("dynapilco/CartPoleSwingUp-v0"))
    )
    for kind in ("corrected", "delta"):
        stepping = make_stepping(task.geometry, kind)
        outputs = stepping.targets(states[:-1], states[1:])
        assert outputs.shape[1] == 4
        torch.testing.assert_close(stepping.advance(states[:-1], outputs, actions), states[1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1", "Hopper-v5"])
def test_known_functions_see_the_last_observation(name):
    plain = task_of(make_env(name))
    task = with_history(plain, 3)
    (once, actions), (states, _) = episode(plain, make_env(name)), episode(task, make_env(name))
    for xp, make in ((np, np.asarray), (torch, torch.as_tensor)):
        a, b, u = make(once), make(states), make(actions)
        assert np.array_equal(plain.reward(a[:-1], u, a[1:], xp), task.reward(b[:-1], u, b[1:], xp))
        if plain.margin is not None:
            assert np.array_equal(plain.margin(a[:-1], u, a[1:], xp), task.margin(b[:-1], u, b[1:], xp))


def test_starts_remember_their_own_observation():
    for env in (Hidden(), make_env("dynapilco/PendulumSwingUp-v0")):
        plain = task_of(env)
        task = with_history(plain, 3)
        once = plain.sample_start((4, 5), torch.Generator().manual_seed(1))
        start = task.sample_start((4, 5), torch.Generator().manual_seed(1))
        assert start.shape == (4, 5, task.geometry.states)
        assert start.dtype == torch.float32
        d = task.size
        for lag in range(3):
            assert torch.equal(start[..., lag * d : (lag + 1) * d], once[..., :d])


def test_what_is_refused():
    with pytest.raises(UserError, match="history=0"):
        with_history(task_of(Hidden()), 0)
    with pytest.raises(UserError, match="columns must lie"):
        Geometry(2, 1, past=((2, 0),))


@pytest.mark.parametrize("kind", [Hidden, Choosing])
def test_engines_agree_on_rollouts_and_gradients(kind):
    task = with_history(task_of(kind()), 3)
    states, actions = (torch.as_tensor(part, dtype=torch.float32) for part in episode(task, kind(), 12))
    data = Transitions.of_episode(states, actions, torch.zeros(12), 0)
    method = make_method("ensemble", {"members": 3, "cold_steps": 30})
    model = DynamicsModel(task.geometry, DynamicsConfig(hidden=(12,)), method, torch.device("cpu"))
    model.fit(data, torch.Generator().manual_seed(0))
    draw = model.draw(3, torch.Generator().manual_seed(1))
    low, high = torch.as_tensor(task.low), torch.as_tensor(task.high)
    policy = make_policy("mlp", {"hidden": [8]}, task.geometry, low, high, torch.ones(task.geometry.states))
    noise = sample_noise(task, draw, 9, 2, 4, torch.Generator().manual_seed(2))
    found = []
    for engine in ("torch", "auto"):
        params = policy.init(2, torch.Generator().manual_seed(3)).requires_grad_()
        simulator = Simulator(draw, policy, 4, engine)
        assert simulator.engine == ("fused" if engine == "auto" and fused.available() else "torch")
        trajectories = simulator(params, noise, 9)
        value = step_rewards(task, trajectories, smooth=True).sum()
        value = value + (trajectories.states * torch.linspace(-1, 1, task.geometry.states)).sum()
        found.append((trajectories.states.detach(), *torch.autograd.grad(value, params)))
        x, u = trajectories.states.detach(), trajectories.actions.detach()
        split, m = 3 * task.size, task.geometry.actions
        assert torch.equal(x[1:, ..., 1:3], x[:-1, ..., 0:2])
        torch.testing.assert_close(x[1:, ..., split : split + m], u)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


def test_bounds_are_those_of_the_present():
    plain = task_of(make_env("Pendulum-v1")).geometry.bounds
    bounds = with_history(task_of(make_env("Pendulum-v1")), 3).geometry.bounds
    assert bounds[:3] == plain
    assert bounds[3:] == ((-np.inf, np.inf),) * 8
