"""The model of a saved run by an id, and what gymnasium's and stable-baselines3's checkers say of it."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from stable_baselines3 import A2C
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor

from dynapilco import LEARNED
from dynapilco.core.errors import UserError
from dynapilco.imagination import LearnedEnv, LearnedVecEnv, LearnedVectorEnv
from tests.agent.conftest import STEPS, build


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Saved runs: continuous actions; bounded observations; discrete actions, and episodes that end."""
    found = {}
    for env_id, steps in (("dynapilco/CartPoleSwingUp-v0", 2 * STEPS), ("Pendulum-v1", 400), ("CartPole-v1", 70)):
        found[env_id] = tmp_path_factory.mktemp("runs") / "saved"
        build(env_id, search={"steps": 1, "screening_steps": 1}).learn(steps).save(found[env_id])
    return found


IDS = ["dynapilco/CartPoleSwingUp-v0", "Pendulum-v1", "CartPole-v1"]


@pytest.mark.parametrize("env_id", IDS)
def test_the_checkers_pass(runs, env_id):
    env = gymnasium.make(LEARNED, run_dir=runs[env_id])
    assert isinstance(env.unwrapped, LearnedEnv)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|symmetric and normalized|precision).*")
        check_env(env.unwrapped, skip_render_check=True)
        sb3_check_env(env, skip_render_check=True)
    first, _ = env.reset(seed=4)
    done, steps = False, 0
    while not done:
        observation, reward, ended, cut, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert np.isfinite(reward)
        done, steps = ended or cut, steps + 1
    assert steps <= env.unwrapped.env.horizon
    assert np.array_equal(env.reset(seed=4)[0], first)


@pytest.mark.parametrize("env_id", IDS)
def test_a_vector_environment_by_its_id(runs, env_id):
    env = gymnasium.make_vec(
        LEARNED, num_envs=8, vectorization_mode="vector_entry_point", run_dir=runs[env_id], horizon=4, starts="reset"
    )
    assert isinstance(env, LearnedVectorEnv)
    real = gymnasium.make(env_id)
    assert env.single_observation_space == real.observation_space
    assert env.single_action_space == real.action_space
    assert env.observation_space == batch_space(real.observation_space, 8)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.action_space.seed(0)
    seen = []
    for _ in range(2):
        observations, info = env.reset(seed=[5] * 8)
        env.action_space.seed(0)
        assert info == {}
        seen.append([observations])
        for step in range(1, 9):
            observations, rewards, ended, cut, info = env.step(env.action_space.sample())
            assert env.observation_space.contains(observations)
            assert rewards.shape == ended.shape == cut.shape == (8,)
            assert ended.dtype == cut.dtype == bool
            done = ended | cut
            assert ("final_obs" in info) == bool(done.any())
            assert step % 4 or done.all() or ended.any()
            for i in np.flatnonzero(done):
                assert info["_final_obs"][i]
                assert real.observation_space.contains(info["final_obs"][i])
                assert not np.array_equal(info["final_obs"][i], observations[i])
            seen[-1].append(observations)
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))
    assert seen[0][0] is not seen[0][1] and not np.shares_memory(seen[0][0], env.states.numpy())


def test_the_face_of_stable_baselines3_passes_its_wrappers(runs):
    env = VecCheckNan(VecMonitor(LearnedVecEnv(gymnasium.make_vec(LEARNED, num_envs=4, run_dir=runs[IDS[1]]))), True)
    agent = A2C("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, device="cpu").learn(100)
    assert agent.num_timesteps >= 100


def test_another_process_makes_it_by_its_id(runs):
    code = (
        "import sys, gymnasium\n"
        f"env = gymnasium.make_vec('dynapilco:{LEARNED}', num_envs=2, run_dir={str(runs[IDS[0]])!r})\n"
        "sys.exit(env.reset(seed=0)[0].shape != (2, 4))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_refused(runs):
    with pytest.raises(UserError, match="run_dir=None"):
        gymnasium.make_vec(LEARNED, num_envs=2)
    with pytest.raises(UserError, match="does not exist"):
        gymnasium.make_vec(LEARNED, num_envs=2, run_dir="no/such")
    with pytest.raises(UserError, match="expected an imagined environment of one"):
        LearnedEnv(gymnasium.make_vec(LEARNED, num_envs=2, run_dir=runs[IDS[0]]))
