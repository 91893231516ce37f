"""A reward or an end that is taken as known is compared with what the environment does."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation

from dynapilco import DynaPILCO
from dynapilco.agent.agreement import disagreement
from dynapilco.agent.episode import run_episode
from dynapilco.core.errors import CheckpointError, FunctionFault, UserError
from dynapilco.tasks import make_env, task_of
from tests.agent.test_misbehaviour import LENGTH, SETTINGS


class Slider(gymnasium.Env):
    """Goes where it is pushed; pays -x^2; ends beyond 1.0."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    horizon = LENGTH
    start_mean, start_std = np.zeros(1), 0.01

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(0, 0.01, 1)
        return self.x, {}

    def step(self, action):
        self.x = self.x + 0.3 * float(action[0])
        return self.x, -float(self.x[0] ** 2), bool(abs(self.x[0]) > 1), False, {}


def square(state, action, after, xp):
    return -(after[..., 0] ** 2)


def inside(state, action, after, xp):
    return 1 - abs(after[..., 0])


def outside(state, action, after, xp):
    return abs(after[..., 0]) > 1


def found(env, push=1.0, **functions):
    task = task_of(env, **functions)
    flat = task.flat(env)
    return disagreement(task, flat, run_episode(flat, lambda *_: np.array([push], np.float32), 0, task.horizon))


def test_what_agrees():
    assert found(Slider()) is None  # nothing is known
    assert found(Slider(), reward=square, margin=inside).steps == 0
    assert found(Slider(), reward=square, terminated=outside).steps == 0
    assert found(Slider(), 0.1, reward=square).steps == 0


@pytest.mark.parametrize(("factor", "steps"), [(1.0005, 0), (1.002, 4), (np.nan, 4)])
def test_rewards_within_a_thousandth(factor, steps):
    told = found(Slider(), reward=lambda *step: factor * square(*step), margin=inside)
    assert told.steps in ([0] if steps == 0 else [3, 4])  # a small payment is judged by the average one
    assert ("the known reward is" in told.text) == (steps > 0)


def test_the_text_holds_step_values_state_and_action():
    told = found(Slider(), reward=lambda x, u, y, xp: square(x, u, y, xp) - 1.0 * (y[..., 0] > 0.5), margin=inside)
    assert told.steps == 3
    assert told.text.startswith("at step 1 the known reward is -1.3")
    assert "and the environment paid -0.3" in told.text
    assert "action [1], next state [0.6" in told.text


def test_ends_are_compared():
    early = found(Slider(), reward=square, margin=lambda x, u, y, xp: 0.5 - abs(y[..., 0]))
    assert early.steps == 2
    assert "at step 1 the known margin is -0.1" in early.text
    assert "the environment went on" in early.text
    late = found(Slider(), reward=square, margin=lambda x, u, y, xp: 9 - abs(y[..., 0]))
    assert (late.steps, "and the environment ended the episode" in late.text) == (1, True)
    never = found(Slider(), reward=square)
    assert (never.steps, "ended the episode and no end is known" in never.text) == (1, True)
    learned_reward = found(Slider(), margin=lambda x, u, y, xp: 9 - abs(y[..., 0]))
    assert learned_reward.steps == 1


def test_sensor_noise_is_no_disagreement_and_another_scale_is():
    assert found(make_env("dynapilco/PendulumSwingUp-v0", {"sensor_noise_std": 0.1})).steps == 0
    env = make_env("dynapilco/PendulumSwingUp-v0")
    box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    halved = TransformObservation(env, lambda observation: observation / 2, box)
    assert found(halved).steps > 0


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1", "Acrobot-v1", "MountainCarContinuous-v0"])
def test_the_catalogue_agrees(name):
    env = make_env(name)
    task = task_of(env)
    flat, rng = task.flat(env), np.random.default_rng(0)
    for seed in range(3):
        episode = run_episode(flat, lambda *_: rng.uniform(task.low, task.high), seed, task.horizon)
        assert disagreement(task, flat, episode).steps == 0


def wrong(state, action, after, xp):
    return -(after[..., 0] ** 2) - 0.1


def test_a_run_says_it_once_and_counts():
    with pytest.warns(UserWarning, match="What is known is used all the same") as caught:
        a = DynaPILCO("mlp", Slider(), seed=0, reward=wrong, margin=inside, **SETTINGS).learn(2 * LENGTH + 1)
    told = [w for w in caught if "trial 0: at step 0 the known reward is -0.1" in str(w.message)]
    assert len(told) == sum("known reward" in str(w.message) for w in caught) == 1
    assert all(row.disagreements >= 1 for row in a.history)


def test_a_run_may_stop_with_the_trial_kept():
    a = DynaPILCO("mlp", Slider(), seed=0, reward=wrong, margin=inside, on_disagreement="stop", **SETTINGS)
    with pytest.raises(UserError, match=r"trial 0: at step 0 the known reward is .*; they are kept"):
        a.learn(3 * LENGTH)
    assert len(a.history) == 1


def brittle(state, action, after, xp):
    """Works near the start and fails further away, as a table that is looked up beyond its end."""
    if bool((abs(after[..., 0]) > 0.02).any()):
        raise KeyError("no entry for this place")
    return -(after[..., 0] ** 2)


def wide(state, action, after, xp):
    return -(after**2) if len(after) == LENGTH else -(after[..., 0] ** 2)


def moody(states, xp):
    return "perhaps" if states.any() else False


@pytest.mark.parametrize(
    ("functions", "attributes", "words"),
    [
        ({"reward": brittle}, {}, r"reward fails at step \d: KeyError: 'no entry for this place' \(state \[.*next st"),
        ({"margin": brittle}, {}, r"margin \(or terminated\) fails at step \d: KeyError"),
        ({"terminated": brittle}, {}, r"margin \(or terminated\) fails at step \d: KeyError"),
        ({"reward": wide}, {}, rf"reward fails on {LENGTH} steps at once, .* it gives \({LENGTH}, 1\), expected a ten"),
        ({}, {"success": staticmethod(moody)}, r"success gives 'perhaps' for states \(9, 1\), the last of them \["),
        ({}, {"success": staticmethod(lambda states, xp: states.any() and {}[3])}, r"success fails on states \(9, 1\)"),
    ],
)
def test_a_known_function_that_fails_on_real_data_costs_no_data(tmp_path, functions, attributes, words):
    quiet = {"step": lambda self, action: (*Slider.step(self, action)[:2], False, False, {})}
    env = type("Slider", (Slider,), {**quiet, **attributes})()
    a = DynaPILCO("mlp", env, seed=0, on_disagreement="continue", **functions, **SETTINGS).attach([], tmp_path)
    with pytest.raises(FunctionFault, match=rf"trial 0: the known {words}.*; its {LENGTH} steps are kept"):
        a.learn(3 * LENGTH)
    assert (len(a.history), len(a.loop.state.data)) == (1, LENGTH)
    assert (a.history[0].success, a.history[0].disagreements) == (None, None)
    assert len(DynaPILCO.load(tmp_path, env, device="cpu", **functions).loop.state.data) == LENGTH


def test_what_is_said_once_is_said_once_in_a_run(tmp_path):
    def run(a, steps):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            a.learn(steps, reset_num_timesteps=False)
            a.evaluate(2)
        return sum("said once" in str(w.message) for w in caught)

    box = spaces.Box(-0.001, 0.001, (1,), np.float64)
    env = type("Slider", (Slider,), {"observation_space": box})
    a = DynaPILCO("mlp", env(), seed=0, reward=wrong, margin=inside, **SETTINGS)
    assert run(a, LENGTH) == 2  # its box, and the reward
    assert run(a, LENGTH) == 0
    a.save(tmp_path)
    again = DynaPILCO.load(tmp_path, env(), device="cpu", reward=wrong, margin=inside)
    assert run(again, LENGTH) == 0
    again.set_env(env())
    assert run(again, LENGTH) == 0
    assert run(DynaPILCO("mlp", env(), seed=0, reward=wrong, margin=inside, **SETTINGS), LENGTH) == 2


def test_functions_are_asked_for_again(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a = DynaPILCO("mlp", Slider(), seed=0, reward=square, terminated=outside, **SETTINGS).learn(LENGTH + 1)
    assert a.task.learned == ()
    assert [row.disagreements for row in a.history] == [0] * len(a.history)
    a.save(tmp_path)
    with pytest.raises(CheckpointError, match=r"with reward= and terminated= handed.*load\(path, reward=function"):
        DynaPILCO.load(tmp_path, Slider(), device="cpu")
    with pytest.raises(CheckpointError, match=r"with reward= handed over"):
        DynaPILCO.load(tmp_path, Slider(), device="cpu", terminated=outside)
    with pytest.raises(CheckpointError, match=r"without margin="):
        DynaPILCO.load(tmp_path, Slider(), device="cpu", reward=square, terminated=outside, margin=inside)
    back = DynaPILCO.load(tmp_path, Slider(), device="cpu", reward=square, terminated=outside)
    assert back.history == a.history
    back.set_env(Slider())
    assert back.task.learned == ()
    back.save(tmp_path / "again")
    with pytest.raises(CheckpointError, match="reward="):
        DynaPILCO.load(tmp_path / "again", Slider(), device="cpu")


def test_functions_that_cannot_be_meant():
    with pytest.raises(UserError, match="margin and terminated both say"):
        task_of(Slider(), margin=inside, terminated=outside)
    with pytest.raises(UserError, match="terminated=True: expected a function"):
        task_of(Slider(), terminated=True)
    with pytest.raises(UserError, match="its terminated fails on tensors"):
        task_of(Slider(), terminated=lambda state, action, after, xp: False)
    with pytest.raises(UserError, match="its reward is 3"):
        task_of(Slider(), reward=3)
