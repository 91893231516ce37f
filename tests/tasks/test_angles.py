"""States that hold angles in the place of cosines and sines: the codec, unwrapping, known functions, finding them."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dynapilco.core.errors import UserError
from dynapilco.dynamics import make_stepping
from dynapilco.tasks import make_env, task_of, with_angles, with_history
from dynapilco.tasks.angles import TURN, Angles, Circle, pairs_text, parse_pairs
from dynapilco.tasks.finding import find_angles

KNOWN = ("Pendulum-v1", "Acrobot-v1", "Reacher-v5", "InvertedDoublePendulum-v5")
REACHER = Angles((Circle(0, 2, 6), Circle(1, 3, 7)), 10, 0.02)


class Wheel(gymnasium.Env):
    """A wheel in steady motion, seen as [speed, sine, cosine], that says nothing of itself."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    horizon, dt, speed = 30, 0.1, 4.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.angle, self.rate = math.pi + self.np_random.normal(0, 0.1), self.speed
        return self._see(), {}

    def step(self, action):
        pushed = self.rate + 0.5 * float(action[0])
        self.angle, self.rate = self.angle + self.dt * (self.rate + pushed) / 2, pushed
        return self._see(), float(np.cos(self.angle)), False, False, {}

    def _see(self):
        return np.array([self.rate, np.sin(self.angle), np.cos(self.angle)], np.float32)


def walk(task, env, steps, seed=0):
    flat, rng = task.flat(env), np.random.default_rng(seed)
    states, actions, rewards, ends = [flat.reset(seed=3)[0]], [], [], []
    seen = [flat.latest]
    for _ in range(steps):
        actions.append(flat.codec.canonical(rng.uniform(task.low, task.high).astype(np.float32)))
        state, reward, ended, cut, _ = flat.step(actions[-1])
        states.append(state), rewards.append(reward), ends.append(ended), seen.append(flat.latest)
        if ended or cut:
            break
    return tuple(map(np.stack, (states, actions, rewards, ends, seen)))


def known(name):
    if name[0] in "RI":
        pytest.importorskip("mujoco")
    env = make_env(name)
    plain = task_of(env)
    return env, plain, with_angles(plain, plain.cos_sin)


# -- the codec ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_decoding_undoes_encoding(kind):
    rng = np.random.default_rng(0)
    angles, rest = rng.uniform(-9, 9, (4, 5, 2)), rng.normal(size=(4, 5, 7))
    observation = np.concatenate([np.cos(angles), np.sin(angles), rest], -1)  # six more of its own, one learned
    xp, x = (np, observation) if kind == "numpy" else (torch, torch.as_tensor(observation))
    state = REACHER.encode(x, xp)
    assert state.shape == (4, 5, 9)
    np.testing.assert_allclose(np.asarray(state[..., 2:]), rest, atol=0)
    np.testing.assert_allclose(np.asarray(REACHER.decode(state, xp)), observation, atol=1e-12)
    assert np.abs(np.asarray(state[..., :2])).max() <= math.pi + 1e-9


@pytest.mark.parametrize("pairs", [((0, 1),), ((2, 0),), ((1, 2),), ((0, 3), (4, 2)), ((3, 1), (4, 2))])
def test_columns_may_stand_in_any_order(pairs):
    rng = np.random.default_rng(1)
    observation = rng.normal(size=(6, 7))
    for cos, sin in pairs:
        angle = rng.uniform(-3, 3, 6)
        observation[:, cos], observation[:, sin] = np.cos(angle), np.sin(angle)
    codec = Angles(tuple(Circle(*pair) for pair in pairs), 5)
    state = codec.encode(observation, np)
    assert state.shape == (6, 7 - len(pairs))
    for (cos, sin), place in zip(pairs, codec.places, strict=True):
        np.testing.assert_allclose(state[:, place], np.arctan2(observation[:, sin], observation[:, cos]))
    np.testing.assert_allclose(codec.decode(state, np), observation, atol=1e-12)


def test_decoding_has_the_gradient_of_cosine_and_sine():
    state = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: REACHER.decode(x, torch), (state,))


def test_angles_are_unwrapped_over_turns_in_both_directions():
    path = np.concatenate([np.linspace(0, 25, 60), np.linspace(25, -31, 120)])
    codec = Angles((Circle(0, 1),), 3)
    states = codec.episode(np.stack([np.cos(path), np.sin(path), path], 1))
    np.testing.assert_allclose(states[:, 0], path, atol=1e-9)


def test_a_velocity_tells_turns_that_are_faster_than_half_a_turn_a_step():
    path = np.arange(12) * 5.0
    seen = np.stack([np.cos(path), np.sin(path), np.full(12, 50.0)], 1)
    assert np.ptp(Angles((Circle(0, 1),), 3, 0.1).episode(seen)[:, 0]) < 20
    np.testing.assert_allclose(Angles((Circle(0, 1, 2),), 3, 0.1).episode(seen)[:, 0], path, atol=1e-9)


def test_first_angles_lie_about_where_episodes_begin():
    task = with_angles(task_of(Wheel()), ((2, 1, 0),))
    assert task.angles.circles[0].origin == math.pi
    starts = task.sample_start((500,), torch.Generator().manual_seed(0))
    assert starts.dtype == torch.float32
    assert starts.shape == (500, 4)  # reward and end are learned
    assert float((starts[:, 1] - math.pi).abs().max()) < 0.5
    assert with_angles(task_of(make_env("Pendulum-v1")), ((0, 1),)).angles.circles[0].origin == 0.0


# -- tasks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_declared_columns_are_what_they_are_called(name):
    env, plain, task = known(name)
    *_, seen = walk(plain, env, 150)
    for cos, sin, velocity in plain.cos_sin:
        np.testing.assert_allclose(seen[:, cos] ** 2 + seen[:, sin] ** 2, 1, atol=1e-5)
        angle = np.unwrap(np.arctan2(seen[:, sin], seen[:, cos]).astype(np.float64))
        led = plain.dt * (seen[1:, velocity] + seen[:-1, velocity]) / 2
        assert np.sqrt(np.mean((np.diff(angle) - led) ** 2)) < 0.2 * np.sqrt(np.mean(np.diff(angle) ** 2))
    assert {p for p, _ in task.geometry.pairs} >= set(task.angles.places)


@pytest.mark.parametrize("name", KNOWN)
def test_a_state_holds_angles_and_known_functions_see_the_observation(name):
    env, plain, task = known(name)
    states, actions, rewards, ends, seen = walk(task, env, 150)
    loose = 1e-3 if "Double" in name else 1e-5
    assert states.shape[1] == task.geometry.states == plain.geometry.states - len(plain.cos_sin)
    assert len(task.names) == len(task.units) == task.geometry.states
    np.testing.assert_allclose(task.angles.decode(states, np), seen, atol=1e-6)
    np.testing.assert_allclose(task.observed(states, np), seen, atol=1e-6)
    assert np.abs(np.diff(states[:, list(task.angles.places)], axis=0)).max() < TURN / 2
    x, u, y = states[:-1], actions, states[1:]
    tensors = [torch.as_tensor(part, dtype=torch.float64) for part in (x, u, y)]
    np.testing.assert_allclose(task.reward(x, u, y, np), rewards, atol=loose, rtol=1e-5)
    np.testing.assert_allclose(task.reward(*tensors, torch).numpy(), rewards, atol=loose, rtol=1e-5)
    if task.ends:
        assert np.array_equal(task.ended(x, u, y, np), ends)


def test_names_say_angle():
    _, _, task = known("Acrobot-v1")
    assert task.names == ("theta1", "theta2", "theta1_dot", "theta2_dot")
    assert task.units == ("rad",) * 2 + ("rad/s",) * 2
    assert task.geometry.angles == (0, 1)
    assert task.geometry.pairs == ((0, 2), (1, 3))
    wheel = with_angles(task_of(Wheel()), ((2, 1),))
    assert wheel.names == ("s0", "angle of s2 s1", "reward", "ended")
    assert wheel.geometry.unseen == (2, 3)
    assert wheel.geometry.pairs == ()


def test_bounds_are_those_of_the_other_columns():
    _, plain, task = known("Pendulum-v1")
    assert task.geometry.bounds == ((-np.inf, np.inf), plain.geometry.bounds[2])
    assert task.geometry.bounds[1] == (-8.0, 8.0)
    assert with_history(task, 2).geometry.bounds[:2] == task.geometry.bounds
    assert task.geometry.free == []
    wheel = Wheel()
    wheel.observation_space = spaces.Box(np.array([-np.inf, -1, -1]), np.array([np.inf, 1, 1]), dtype=np.float64)
    plain = task_of(wheel)
    assert plain.geometry.bounds[1] == (-1.0, 1.0)
    assert with_angles(plain, ((2, 1),)).geometry.bounds == ()


def test_positions_follow_their_velocities():
    _, _, task = known("Pendulum-v1")
    states, *_ = walk(task, make_env("Pendulum-v1"), 60)
    stepping = make_stepping(task.geometry, "auto")
    x, y = (torch.as_tensor(part, dtype=torch.float32) for part in (states[:-1], states[1:]))
    outputs = stepping.targets(x, y)
    assert float(outputs[:, 0].abs().max()) < 0.04  # what half a step's change of velocity misses: 0.05 * 0.75 * 2 / 2
    torch.testing.assert_close(stepping.advance(x, outputs), y, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["Pendulum-v1", "Reacher-v5", "wheel"])
def test_a_history_of_angles(name):
    env = Wheel() if name == "wheel" else make_env(name)
    plain = task_of(env)
    once = with_angles(plain, ((2, 1, 0),) if name == "wheel" else plain.cos_sin)
    task = with_history(once, 3)
    (short, actions, rewards, _, seen), (states, *_) = walk(once, env, 20), walk(task, env, 20)
    for t in range(2, len(states)):
        lags = np.concatenate([short[t - lag, : task.size] for lag in range(3)])
        np.testing.assert_array_equal(states[t, : 3 * task.size], lags)
    observed, d = task.observed(states, np), seen.shape[1]
    assert observed.shape[1] == task.observed_size
    for lag in range(3):
        np.testing.assert_allclose(observed[2:, lag * d : (lag + 1) * d], seen[2 - lag : len(seen) - lag], atol=1e-6)
    known_rewards = task.reward(states[:-1], actions, states[1:], np)
    np.testing.assert_allclose(known_rewards, rewards, atol=1e-5)
    assert task.sample_start((4,), torch.Generator().manual_seed(0)).shape == (4, task.geometry.states)
    assert len(task.geometry.angles) == 3 * len(once.geometry.angles)
    np.testing.assert_allclose(task.stack.episode(short, actions), states)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (((0, 3),), "expected"),
        (((0,),), "expected"),
        (((0, 1, 2, 3),), "expected"),
        (((0, 0),), "one thing only"),
        (((0, 1), (1, 2)), "one thing only"),
    ],
)
def test_what_is_refused(pairs, words):
    with pytest.raises(UserError, match=words):
        with_angles(task_of(make_env("Pendulum-v1")), pairs)


def test_columns_that_are_something_else_are_refused():
    with pytest.raises(UserError, match="angle_indices or position_velocity_pairs as well"):
        with_angles(task_of(make_env("dynapilco/CartPoleSwingUp-v0")), ((2, 3),))
    wheel = Wheel()
    wheel.cos_sin_pairs = 3
    with pytest.raises(UserError, match="cos_sin_pairs=3"):
        task_of(wheel)


@pytest.mark.parametrize("given", [None, False, 5, [0, 1], [(0, 1), 2]])
def test_what_is_no_sequence_of_columns_is_refused_by_its_name(given):
    with pytest.raises(UserError, match=r"angles=.*expected 'auto', 'declared', 'off'"):
        pairs_text(given)
    assert pairs_text([(0, 1), (2, 3, 4)]) == "0,1 2,3,4"
    assert pairs_text("auto") == "auto"


def test_words():
    assert parse_pairs("0,1,2 3,4") == ((0, 1, 2), (3, 4))
    for word in ("", "on", "0", "0,1,2,3", "0,x"):
        with pytest.raises(UserError, match="expected 'auto'"):
            parse_pairs(word)


# -- finding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_declared_would_be_found(name):
    env, plain, _ = known(name)
    *_, seen = walk(plain, env, 150)
    found = find_angles(seen[:-1], seen[1:], plain.dt, plain.starts[:, : plain.size].numpy())
    if len(seen) >= 21:
        assert {angle.columns for angle in found} == set(plain.cos_sin)
    else:  # too few transitions to tell a velocity
        assert {frozenset(angle.columns[:2]) for angle in found} == {frozenset(pair[:2]) for pair in plain.cos_sin}


def test_a_velocity_tells_cosine_and_sine_apart_and_the_direction():
    env = Wheel()
    *_, seen = walk(task_of(env), env, 30)
    assert [angle.columns for angle in find_angles(seen[:-1], seen[1:], 0.1)] == [(2, 1, 0)]
    assert [angle.columns for angle in find_angles(seen[:-1], seen[1:], None)] == [(1, 2)]
    assert [angle.columns for angle in find_angles(seen[:-1], seen[1:], 0.2)] == [(1, 2)]
    backwards = seen * np.array([1, -1, 1])  # a velocity in another frame
    (angle,) = find_angles(backwards[:-1], backwards[1:], 0.1)
    assert angle.columns == (1, 2, 0)
    assert angle.misses < 0.01


def test_chance_is_not_found():
    rng = np.random.default_rng(0)
    still = np.stack([np.full(50, 1.0), rng.normal(0, 1e-4, 50), rng.normal(size=50)], 1)
    assert find_angles(still[:-1], still[1:], 0.1) == ()
    noisy = np.stack([np.cos(path := np.linspace(0, 5, 50)), np.sin(path) + rng.normal(0, 0.01, 50)], 1)
    assert find_angles(noisy[:-1], noisy[1:], 0.1) == ()
    circle = np.stack([np.cos(path), np.sin(path)], 1)
    assert find_angles(circle[:-1], circle[1:], 0.1)
    assert find_angles(circle[:-1], circle[1:], 0.1, starts=np.array([[0.5, 0.5]])) == ()
    assert find_angles(circle[:-1], circle[1:], 0.1, taken=frozenset([1])) == ()


def test_a_switch_of_two_columns_is_no_angle():
    """One-hot columns, or four directions of a compass: squares add up to 1, and nothing lies between."""
    on = np.arange(50) // 7 % 2.0
    hot = np.stack([on, 1 - on], 1)
    assert find_angles(hot[:-1], hot[1:], 0.1) == ()
    compass = np.arange(50) // 3 * np.pi / 2
    turned = np.stack([np.cos(compass), np.sin(compass)], 1)
    assert find_angles(turned[:-1], turned[1:], 0.1) == ()
    small = np.linspace(0, 0.04, 50)  # rad
    moved = np.stack([np.cos(small), np.sin(small)], 1)
    assert find_angles(moved[:-1], moved[1:], 0.1)
