"""The habits of stable-baselines3: environments, callbacks, evaluation, prediction."""

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from dynapilco import DynaPILCO
from dynapilco.core.errors import UserError

CART = "dynapilco/CartPoleSwingUp-v0"
STEPS = 60


def cart():
    return gymnasium.make(CART)


class StopAt(BaseCallback):
    def __init__(self, at):
        super().__init__()
        self.at, self.steps, self.rollouts = at, [], [0, 0]

    def _on_rollout_start(self):
        self.rollouts[0] += 1

    def _on_rollout_end(self):
        self.rollouts[1] += 1

    def _on_step(self):
        self.steps.append(self.num_timesteps)
        return self.num_timesteps != self.at


def test_evaluate_policy(trained):
    returns, lengths = evaluate_policy(trained, Monitor(cart()), 2, return_episode_rewards=True)
    assert lengths == [STEPS] * 2
    assert all(0 < r < STEPS for r in returns)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (7, 4)])
def test_predictions_have_the_shape_of_the_batch_and_keep_to_the_box(trained, shape):
    obs = 100 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    action, state = trained.predict(obs, deterministic=True)
    assert action.shape == (*shape[:-1], 1)
    assert action.dtype == np.float32
    assert state is None
    assert (np.abs(action) <= 10).all()
    np.testing.assert_array_equal(trained.predict(obs)[0], action)


def test_row_by_row_predictions_agree(trained):
    obs = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    rows = [trained.predict(row)[0] for row in obs]
    np.testing.assert_allclose(trained.predict(obs)[0], rows, atol=1e-5)


@pytest.mark.parametrize(
    "env",
    [cart, lambda: DummyVecEnv([cart]), lambda: make_vec_env(CART, 1), lambda: Monitor(cart())],
    ids=["env", "dummy", "make_vec_env", "monitor"],
)
def test_environments_that_are_accepted(make, env):
    by_id, agent = make().learn(2 * STEPS), make(env()).learn(2 * STEPS)
    assert torch.equal(agent.loop.state.policies, by_id.loop.state.policies)
    assert agent.config.env_id == CART


@pytest.mark.parametrize(
    "env",
    [lambda: DummyVecEnv([cart, cart]), lambda: VecNormalize(DummyVecEnv([cart])), lambda: object()],
    ids=["two", "normalised", "object"],
)
def test_environments_that_are_refused(make, env):
    with pytest.raises(UserError, match="expected a Gymnasium id, an environment, or a DummyVecEnv of one"):
        make(env())


def test_callbacks_hear_every_step(make):
    callback = StopAt(None)
    make().learn(2 * STEPS, callback=callback)
    assert callback.steps == list(range(1, 2 * STEPS + 1))
    assert callback.rollouts == [2, 2]


@pytest.mark.parametrize("at", [1, 30, STEPS + 1, STEPS + 30])
def test_a_callback_that_returns_false_stops_and_drops_the_unfinished_trial(make, at):
    callback = StopAt(at)
    agent = make().learn(5 * STEPS, callback=callback)
    assert callback.steps[-1] == at
    whole = at // STEPS
    assert len(agent.history) == whole
    assert len(agent.loop.state.data) == agent.loop.state.env_steps == whole * STEPS
    assert len(agent.loop.state.policies) == max(0, whole - 1)


def test_a_callback_may_stop_at_the_last_step_of_a_trial(make):
    agent = make().learn(3 * STEPS, callback=StopAt(STEPS))
    assert len(agent.history) == 1


def test_a_dropped_trial_leaves_no_trace(make):
    whole, stopped = make().learn(3 * STEPS), make()
    stopped.learn(3 * STEPS, callback=StopAt(STEPS + 30))
    stopped.learn(2 * STEPS)
    assert [row.ret for row in stopped.history] == [row.ret for row in whole.history]


def test_checkpoints_keep_the_names_of_the_callback(make, tmp_path):
    agent = make().learn(2 * STEPS, callback=CheckpointCallback(STEPS, str(tmp_path), "rl_model"))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["rl_model_120_steps.zip", "rl_model_60_steps.zip"]
    assert all((tmp_path / name).is_dir() for name in names)
    # within a trial the last finished one is what there is to save
    assert len(DynaPILCO.load(tmp_path / names[0], device="cpu").history) == 1
    assert len(agent.history) == 2


def test_eval_callback(make, tmp_path):
    callback = EvalCallback(
        Monitor(cart()), n_eval_episodes=2, eval_freq=STEPS, best_model_save_path=str(tmp_path), verbose=0
    )
    plain, agent = make().learn(2 * STEPS), make().learn(2 * STEPS, callback=callback)
    assert np.isfinite(callback.best_mean_reward)
    assert (tmp_path / "best_model.zip" / "state.json").is_file() or (tmp_path / "best_model" / "state.json").is_file()
    assert torch.equal(agent.loop.state.policies, plain.loop.state.policies)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_stopping_at_a_reward(make, at_the_end):
    """At a trial's last step the answer of the callback is lost, see above."""
    stop = StopTrainingOnRewardThreshold(-1.0, verbose=0)
    callback = EvalCallback(
        Monitor(cart()), stop, n_eval_episodes=1, eval_freq=STEPS if at_the_end else STEPS - 1, verbose=0
    )
    assert len(make().learn(3 * STEPS, callback=callback).history) <= 1


@pytest.mark.parametrize(
    "env",
    [
        CART,
        lambda: DummyVecEnv([cart]),
    ],
)
def test_stopping_after_some_episodes(make, env):
    class Counted(StopTrainingOnMaxEpisodes):
        def _on_rollout_start(self):
            starts.append(self.num_timesteps)

    starts = []
    agent = make(env if isinstance(env, str) else env())
    agent.learn(4 * STEPS, callback=Counted(2, verbose=0))
    assert len(agent.history) == 2
    assert len(starts) == 2  # not a third trial, fitted and then dropped


def test_the_logger_gets_the_history(make, tmp_path):
    from stable_baselines3.common.logger import configure

    agent = make()
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(2 * STEPS)
    text = (tmp_path / "progress.csv").read_text().splitlines()
    header = text[0].split(",")
    for name in ("trial/return", "rollout/ep_rew_mean", "rollout/ep_len_mean", "time/total_timesteps"):
        assert name in header
    assert len(text) == 3
    last = dict(zip(header, text[-1].split(","), strict=True))
    assert float(last["rollout/ep_rew_mean"]) == pytest.approx(np.mean([row.ret for row in agent.history]), abs=1e-3)


def test_settings_that_sb3_knows(make):
    agent = make()
    assert agent.get_env().num_envs == 1
    assert agent.observation_space.shape == (4,)
    assert agent.policy.observation_space == agent.observation_space
    assert DynaPILCO("MlpPolicy", CART, device="cpu", seed=3).seed == 3
    one, other = (DynaPILCO("mlp", CART, device="cpu").config.seed for _ in range(2))
    assert one != other  # None picks one, and keeps it
