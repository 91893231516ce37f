"""What an adversarial reader found in the Python face: each of these once broke a promise."""

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import CheckpointCallback

from dynapilco import DynaPILCO
from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.tasks import make_env, task_of

CART = "dynapilco/CartPoleSwingUp-v0"
SETTINGS = {
    "inference_kwargs": {"members": 2, "cold_steps": 10, "warm_steps": 5},
    "search": {"steps": 6, "screening_steps": 3, "fresh_starts": 1},
    "rollout": {"total_particles": 8},
    "device": "cpu",
}


def agent(env=CART, seed=3):
    return DynaPILCO("MlpPolicy", env, seed=seed, **SETTINGS)


def returns(a):
    return [row.ret for row in a.history]


def test_a_checkpoint_saved_inside_a_trial_is_the_state_before_it(tmp_path):
    whole = agent().learn(180)
    cut = agent()
    cut.learn(180, callback=CheckpointCallback(90, str(tmp_path)))
    back = DynaPILCO.load(tmp_path / "rl_model_90_steps.zip", device="cpu")
    assert len(back.history) == 1
    back.learn(120, reset_num_timesteps=False)
    assert returns(back) == returns(whole)
    assert torch.equal(back.loop.state.policies, whole.loop.state.policies)
    assert len(DynaPILCO.load(tmp_path / "rl_model_180_steps", device="cpu").history) == 2  # SB3's habit: no .zip


def test_save_leaves_other_files_alone(tmp_path):
    mine = tmp_path / "tensors-precious.safetensors"
    mine.write_text("mine")
    a = agent().learn(60)
    a.save(tmp_path)
    a.learn(60, reset_num_timesteps=False)
    a.save(tmp_path)
    assert mine.read_text() == "mine"
    assert len(list(tmp_path.glob("tensors-*"))) == 2


def test_set_env_reaches_the_loop():
    a = agent().learn(60)
    other = gymnasium.make(CART, friction=5.0)
    a.set_env(other)
    assert a.loop.env.unwrapped is other.unwrapped
    assert a.config.env_kwargs == {"friction": 5.0}
    assert len(a.history) == 1
    a.learn(60, reset_num_timesteps=False)
    assert len(a.history) == 2
    with pytest.raises(CheckpointError, match="another environment"):
        a.set_env(gymnasium.make("dynapilco/PendulumSwingUp-v0"))


class Tank(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    horizon = 5

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.level = np.zeros(1, np.float32)
        return self.level, {}

    def step(self, action):
        before, self.level = self.level, self.level + 0.1 * np.asarray(action, np.float32)
        return self.level, float(self.reward(before, action, self.level, np)), False, False, {}

    @staticmethod
    def reward(state, action, next_state, xp):
        return xp.exp(-((next_state[..., 0] - 0.3) ** 2))


def test_a_small_environment_of_ones_own_trains():
    a = agent(Tank()).learn(15)
    assert len(a.history) == 3
    assert a.history[-1].success is None


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("success", staticmethod(lambda states, xp: states), "success"),
        ("start_mean", [0.0, 0.0], "start_mean"),
        ("state_names", (), "state_names"),
        ("reward", staticmethod(lambda s, a, n, xp: np.exp(n[..., 0])), "fails on tensors"),
        ("reward", staticmethod(lambda s, a, n, xp: n), "gives"),
        ("margin", staticmethod(lambda s, a, n, xp: xp.nothing(n)), "its margin fails on tensors"),
        ("action_space", gymnasium.spaces.Box(-1.0, 1.0, (0,), np.float32), "expected a Box of floating numbers"),
    ],
)
def test_attributes_of_an_environment_are_checked(attribute, value, message):
    kind = type("Odd", (Tank,), {attribute: value, "start_std": 0.1})
    with pytest.raises(UserError, match=message):
        task_of(kind())


def test_whatever_a_constructor_raises_becomes_one_sentence():
    def broken(**_):
        raise ZeroDivisionError("by nothing")

    gymnasium.register("dynapilco-test/Broken-v0", entry_point=broken, max_episode_steps=5)
    try:
        with pytest.raises(UserError, match="ZeroDivisionError: by nothing"):
            make_env("dynapilco-test/Broken-v0")
    finally:
        del gymnasium.registry["dynapilco-test/Broken-v0"]


def test_exploration_does_not_count_as_a_first_success():
    from dynapilco.tracking.summary import build_summary

    a = agent().learn(60)
    row = a.history[0]
    lucky = type(row)(**{**vars(row), "success": True})
    config = {"env_id": CART, "inference": "ensemble", "seed": 0}
    assert build_summary(config, [lucky], [], [], delivered_trial=None, wall_seconds=1.0)["first_success_trial"] is None
