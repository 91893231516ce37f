"""The environments: interfaces of gymnasium and SB3, rewards, success, vector environments, pictures."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import dynapilco_envs

IDS = [f"dynapilco/{task.__name__}-v0" for task in dynapilco_envs.TASKS]
CART, PILCO, PENDULUM, DOUBLE = IDS
UPRIGHT = {
    CART: [0, 0, np.pi, 0],
    PILCO: [0, 0, np.pi, 0],
    PENDULUM: [np.pi, 0],
    DOUBLE: [0, 0, np.pi, 0, np.pi, 0],
}


def make(name, **kwargs):
    return gym.make(name, **kwargs).unwrapped


def make_vector(name, num_envs, **kwargs):
    return gym.make_vec(name, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)


def prefixed():
    return gym.make(f"dynapilco_envs:{CART}")


# --- interfaces


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_both_checkers_pass(name, noise):
    env = gym.make(name, render_mode="rgb_array", sensor_noise_std=noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both recommend bounded spaces, which the tasks do not have
        gymnasium_check_env(env.unwrapped)
        sb3_check_env(env)
    env.close()


def test_sb3_vector_environments_reach_the_environment_by_its_prefixed_id():
    dummy = DummyVecEnv([prefixed])
    assert dummy.reset().shape == (1, 4)
    workers = SubprocVecEnv([prefixed], start_method="spawn")
    try:
        assert workers.reset().shape == (1, 4)
        _, rewards, _, infos = workers.step(np.zeros((1, 1), dtype=np.float32))
        assert rewards[0] == pytest.approx(np.exp(-((np.pi / 3) ** 2)), rel=0.05)
        assert infos[0]["state"].dtype == np.float64
    finally:
        workers.close()


@pytest.mark.parametrize(
    ("name", "steps", "dt"), [(CART, 60, 0.05), (PILCO, 40, 0.1), (PENDULUM, 40, 0.1), (DOUBLE, 30, 0.1)]
)
def test_trial_is_truncated_after_the_horizon(name, steps, dt):
    env = gym.make(name)
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, dtype=np.float32))[2:4] for _ in range(steps)]
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]
    assert env.unwrapped.horizon == steps
    assert env.unwrapped.dt == dt


@pytest.mark.parametrize("name", IDS)
def test_description_fits_the_state(name):
    env = make(name)
    dimension = env.observation_space.shape[0]
    assert env.observation_space.dtype == np.float32
    assert np.isinf(env.observation_space.high).all()
    assert len(env.state_names) == len(env.state_units) == dimension
    assert env.start_mean.shape == env.start_std.shape == env.sensor_noise_std.shape == (dimension,)
    assert all(env.state_units[i] == "rad" for i in env.angle_indices)
    assert sum(unit == "rad" for unit in env.state_units) == len(env.angle_indices)
    for position, velocity in env.position_velocity_pairs:
        assert env.state_names[velocity] == env.state_names[position] + "_dot"
        assert env.state_units[velocity] == env.state_units[position] + "/s"
    assert env.action_space.high == {CART: 10, PILCO: 10, PENDULUM: 2.5, DOUBLE: 20}[name]
    assert env.length == {CART: 0.5, PILCO: 0.5, PENDULUM: 1.0, DOUBLE: 1.2}[name]


@pytest.mark.parametrize("name", IDS)
def test_start_has_its_distribution(name):
    env = make_vector(name, 2000)
    env.reset(seed=1)
    std = 0.01 if name == CART else 0.1
    assert np.abs(env.state.mean(0)).max() < 4 * std / 2000**0.5
    np.testing.assert_allclose(env.state.std(0), std, rtol=0.08)


# --- reward and success


def test_rewards_at_known_states():
    hanging = np.zeros(4)
    action = np.zeros(1)

    def reward(name, state):
        return make(name).reward(hanging, action, np.array(state, dtype=float), np)

    for name in IDS:
        assert reward(name, UPRIGHT[name]) == pytest.approx(1.0)
    assert reward(CART, [0.5, 9, -1.0, 9]) == pytest.approx(np.exp(-(((1 - np.pi) / 3) ** 2) - 0.25))
    assert reward(CART, [0, 0, 3 * np.pi, 0]) == pytest.approx(np.exp(-((2 * np.pi / 3) ** 2)))
    assert reward(PILCO, hanging) == pytest.approx(np.exp(-1 / (2 * 0.25**2)))
    assert reward(PILCO, [0.3, 0, np.pi / 2, 0]) == pytest.approx(np.exp(-(0.8**2 + 0.5**2) / (2 * 0.25**2)))
    assert reward(PENDULUM, [np.pi / 2, 0]) == pytest.approx(np.exp(-2 / (2 * 0.5**2)))
    folded = [
        0.1,
        0,
        np.pi,
        0,
        0,
        0,
    ]  # the second link hangs from the upright first one: the tip at the pivot
    assert reward(DOUBLE, folded) == pytest.approx(np.exp(-(0.1**2 + 1.2**2) / (2 * 0.5**2)))
    aside = [0, 0, np.pi, 0, np.pi / 2, 0]
    assert reward(DOUBLE, aside) == pytest.approx(np.exp(-2 * 0.6**2 / (2 * 0.5**2)))


@pytest.mark.parametrize("name", IDS)
def test_reward_and_success_are_the_same_in_torch(name):
    env = make(name)
    rng = np.random.default_rng(0)
    states = np.array(UPRIGHT[name]) + rng.normal(0, 0.1, (64, 25, len(env.state_names)))
    states *= rng.random((64, 1, 1)) < 0.8
    states[:8] = UPRIGHT[name]
    action = np.zeros((64, 25, 1))
    expected = env.reward(states, action, states, np)
    tensor = torch.tensor(states, requires_grad=True)
    actual = env.reward(tensor, torch.tensor(action), tensor, torch)
    np.testing.assert_allclose(actual.detach(), expected, rtol=1e-12)
    assert torch.autograd.grad(actual.sum(), tensor)[0].abs().sum() > 0
    assert env.reward(tensor.float(), None, tensor.float(), torch).dtype == torch.float32
    verdict = env.success(states, np)
    assert verdict.shape == (64,)
    assert 8 <= verdict.sum() < 64
    assert (env.success(tensor, torch).numpy() == verdict).all()


@pytest.mark.parametrize("name", IDS)
def test_reward_is_that_of_the_state_after_the_step(name):
    env = make(name)
    env.reset(seed=0)
    env.state = np.array(UPRIGHT[name]) + 0.2
    before = env.state
    _, reward, _, _, info = env.step(env.action_space.high)
    assert reward == env.reward(before, env.action_space.high, info["state"], np)
    assert reward != env.reward(before, env.action_space.high, before, np)
    assert isinstance(reward, float)


def trial(name, changes=None, rows=40, at=-1):
    """An upright trial; `changes` of components at row `at`."""
    states = np.tile(np.array(UPRIGHT[name], dtype=float), (rows, 1))
    for component, value in (changes or {}).items():
        states[at, component] += value
    return states


@pytest.mark.parametrize("name", IDS)
def test_success_needs_all_of_the_last_second_and_only_that(name):
    success = make(name).success
    rows = round(1 / make(name).dt)
    assert rows == (20 if name == CART else 10)
    fallen = {make(name).angle_indices[-1]: 1.5}
    assert success(trial(name), np)
    assert success(trial(name, rows=rows), np)
    assert success(trial(name, fallen, at=-rows - 1), np)
    assert not success(trial(name, fallen, at=-rows), np)
    assert not success(trial(name, fallen, at=-1), np)
    with pytest.raises(ValueError, match="states"):
        success(trial(name, rows=rows - 1), np)


def test_success_of_mc_pilco_is_in_position_and_unwrapped_angle():
    success = make(CART).success
    assert success(trial(CART, {0: 0.099}), np)
    assert not success(trial(CART, {0: 0.101}), np)
    assert not success(trial(CART, {0: -0.101}), np)
    for sign in (1, -1):
        assert success(trial(CART, {2: sign * np.radians(9.9)}), np)
        assert not success(trial(CART, {2: sign * np.radians(10.1)}), np)
    once_left = trial(CART)
    once_left[:, 2] = -np.pi
    assert success(once_left, np)
    further = trial(CART)
    further[:, 2] += 2 * np.pi
    assert not success(further, np)


@pytest.mark.parametrize("name", [PILCO, PENDULUM, DOUBLE])
def test_success_of_the_tip_is_within_a_fifth_of_the_length_and_wrapped(name):
    env = make(name)
    further = trial(name)
    further[:, list(env.angle_indices)] += 4 * np.pi
    assert env.success(further, np)
    if name == PENDULUM:
        inside, outside = ({0: 2 * np.arcsin(share / 2)} for share in (0.199, 0.201))  # the chord of the circle
    else:
        inside, outside = ({0: share * env.length} for share in (0.199, 0.201))
    assert env.success(trial(name, inside), np)
    assert not env.success(trial(name, outside), np)


# --- observation, state, arguments


@pytest.mark.parametrize("name", IDS)
def test_seeds_reproduce_a_trial_and_differ(name):
    def run(seed):
        env = make(name, sensor_noise_std=0.01)
        observations = [env.reset(seed=seed)[0]]
        observations += [env.step(env.action_space.high / 2)[0] for _ in range(5)]
        return np.array([*observations, env.reset()[0]])

    assert (run(3) == run(3)).all()
    assert (run(3) != run(4)).all()


def test_sensor_noise_is_in_the_observation_alone():
    std = np.array([0.1, 0.2, 0.0, 0.4])
    noisy, clean = make(CART, sensor_noise_std=std), make(CART)
    noisy.reset(seed=5)
    clean.reset(seed=5)
    assert (noisy.state == clean.state).all()
    errors = []
    for _ in range(800):
        noisy.state = clean.state = np.zeros(4)
        observation, reward, _, _, info = noisy.step([1.0])
        clean_observation, clean_reward, _, _, clean_info = clean.step([1.0])
        assert reward == clean_reward
        assert (info["state"] == clean_info["state"]).all()
        assert (clean_observation == clean_info["state"].astype(np.float32)).all()
        errors.append(observation - info["state"])
    np.testing.assert_allclose(np.std(errors, axis=0), std, rtol=0.12, atol=1e-7)


def test_actions_are_clipped_and_checked():
    env = make(CART)
    ends = []
    for force in (10.0, 1000.0):
        env.state = np.zeros(4)
        ends.append(env.step(np.array([force]))[4]["state"])
    assert (ends[0] == ends[1]).all()
    for bad in ([np.nan], [np.inf], [1.0, 2.0], 1.0):
        with pytest.raises(ValueError, match="action"):
            env.step(np.array(bad))
    vector = make_vector(CART, 2)
    with pytest.raises(ValueError, match="action"):
        vector.step(np.array([[0.0], [np.nan]]))


@pytest.mark.parametrize(
    "kwargs",
    [{"sensor_noise_std": -1}, {"sensor_noise_std": [1, 2]}, {"friction": -1}, {"render_mode": "human"}],
)
def test_bad_arguments_are_named(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        dynapilco_envs.cart_pole.CartPoleSwingUpEnv(**kwargs)


def test_bad_states_are_refused():
    env = make(CART)
    for bad in (np.zeros(3), np.full(4, np.nan)):
        with pytest.raises(ValueError, match="state"):
            env.state = bad


def test_info_is_a_copy():
    env = make(CART)
    _, info = env.reset(seed=0)
    info["state"][:] = 7
    assert np.abs(env.state).max() < 1
    info = env.step([0.0])[4]
    info["state"][:] = 7
    assert np.abs(env.state).max() < 1


# --- vector environments


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("num_envs", [3, 41])  # a batch that is integrated row by row, and one together
def test_vector_environment_equals_scalar_ones(name, num_envs):
    steps, last = 8, 5
    vector = make_vector(name, num_envs, max_episode_steps=last, sensor_noise_std=0.01)
    scalars = [gym.make(name, max_episode_steps=last, sensor_noise_std=0.01) for _ in range(num_envs)]
    observations, infos = vector.reset(seed=7)
    for i, env in enumerate(scalars):
        observation, info = env.reset(seed=7 + i)
        assert (observations[i] == observation).all()
        assert (infos["state"][i] == info["state"]).all()
    rng = np.random.default_rng(0)
    for step in range(1, steps + 1):
        actions = rng.uniform(-1.2, 1.2, (num_envs, 1)) * vector.single_action_space.high
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        assert observations.dtype == np.float32
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step == last) == ("final_obs" in infos)
        for i, env in enumerate(scalars):
            observation, reward, _, cut, info = env.step(actions[i])
            assert rewards[i] == pytest.approx(reward, rel=1e-13)  # numpy's exp rounds by position
            if cut:
                assert (infos["final_obs"][i] == observation).all()
                assert (infos["final_info"]["state"][i] == info["state"]).all()
                observation, info = env.reset()
            assert (observations[i] == observation).all()
            assert (infos["state"][i] == info["state"]).all()


def test_vector_environment_follows_the_conventions_of_gymnasium():
    env = make_vector(CART, 3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.max_episode_steps == 60
    assert env.observation_space.shape == (3, 4)
    assert env.action_space.shape == (3, 1)
    first, _ = env.reset(seed=[1, 2, 1])
    assert (first[0] == first[2]).all()
    assert (first[0] != first[1]).all()
    env.step(np.ones((3, 1)))
    before = env.state.copy()
    mask = np.array([False, True, False])
    options = {"reset_mask": mask}
    after, infos = env.reset(options=options)
    assert (env.state[~mask] == before[~mask]).all()
    assert (env.state[1] != before[1]).all()
    assert (after == env.state.astype(np.float32)).all()
    assert (infos["_state"] == mask).all()
    assert options == {"reset_mask": mask}
    for _ in range(59):
        truncated = env.step(np.zeros((3, 1)))[3]
    assert (truncated == ~mask).all()  # the one that was reset has a step to go
    for bad in ([True], np.zeros(3, dtype=bool), np.ones(3)):
        with pytest.raises(ValueError, match="reset_mask"):
            env.reset(options={"reset_mask": bad})
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="num_envs"):
        type(env)(num_envs=0)


# --- pictures


def red(frame):
    """Columns of the pixels in the arrow's colour."""
    return np.nonzero((frame[..., 0] > 180) & (frame[..., 1] < 60))[1]


@pytest.mark.parametrize("name", IDS)
def test_frames_show_the_state_and_the_action(name):
    env = make(name, render_mode="rgb_array")
    env.reset(seed=0)
    frames, extents = [], []
    for share in (0.0, 0.5, 1.0, -1.0):
        env.state = env.start_mean
        env.step(share * env.action_space.high)
        frames.append(env.render())
        extents.append(red(frames[-1]))
    assert all(frame.shape == (320, 480, 3) and frame.dtype == np.uint8 for frame in frames)
    assert frames[0].std() > 5
    assert extents[0].size == 0
    assert 0 < extents[1].size < extents[2].size
    side = -1 if name == PENDULUM else 1  # counter-clockwise from the top goes to the left
    assert side * (extents[2].mean() - 240) > 10
    assert side * (extents[3].mean() - 240) < -10
    env.state = UPRIGHT[name]
    assert (env.render() != frames[2]).any()


def test_force_arrow_is_as_long_as_the_force():
    env = make(CART, render_mode="rgb_array")
    lengths = []
    for force in (4.0, 8.0):
        env.state = np.zeros(4)
        env.step([force])
        lengths.append(np.ptp(red(env.render())) + 1)
    assert lengths[1] - lengths[0] == pytest.approx(36, abs=2)


def test_camera_follows_a_cart_that_leaves():
    env = make(CART, render_mode="rgb_array")
    for x in (-50.0, 50.0):
        env.state = [x, 0, 0, 0]
        cart = np.nonzero((env.render() == (52, 66, 86)).all(-1))[1]
        assert cart.size > 500


def test_rendering_without_a_mode_warns():
    env = make(CART)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render mode"):
        assert env.render() is None


def test_vector_environment_renders_each():
    env = make_vector(PENDULUM, 2, render_mode="rgb_array")
    env.state = [[0, 0], [3, 0]]
    frames = env.render()
    assert len(frames) == 2
    assert (frames[0] != frames[1]).any()
