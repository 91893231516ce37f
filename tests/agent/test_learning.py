"""The loop: reproducible, resumable, and touching nothing global."""

import random
from dataclasses import asdict, replace

import gymnasium
import numpy as np
import pytest
import torch

from dynapilco import DynaPILCO
from dynapilco.agent.excitation import excitation
from dynapilco.core.errors import UserError
from dynapilco.tracking.sink import TIME_COLUMNS, Sink

STEPS = 60

PREDICTED = "dynapilco.agent.control.searched.predicted_returns"


def rows(agent):
    """The history without its time columns."""
    return [{k: v for k, v in asdict(row).items() if k not in TIME_COLUMNS} for row in agent.history]


def tensors(agent):
    state = agent.loop.state
    made = {f"data/{k}": v for k, v in state.data.tensors().items()} | state.model
    return made | {"policies": state.policies, "scale": state.policy_scale}


def assert_same(one, other):
    assert rows(one) == rows(other)
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert one.loop.state.delivered == other.loop.state.delivered


@pytest.mark.parametrize("inference", ["ensemble", "mc_dropout"])
def test_the_same_seed_gives_the_same_run_bitwise(make, inference):
    kwargs = {"cold_steps": 30, "warm_steps": 20}
    agents = [make(seed=s, inference=inference, inference_kwargs=kwargs).learn(3 * STEPS) for s in (5, 5, 6)]
    assert_same(*agents[:2])
    assert rows(agents[0]) != rows(agents[2])
    assert not torch.equal(agents[0].loop.state.policies, agents[2].loop.state.policies)
    assert not torch.equal(agents[0].loop.state.data.actions[:STEPS], agents[2].loop.state.data.actions[:STEPS])


@pytest.mark.parametrize("split", [1, 2, 3])
def test_resuming_equals_an_uninterrupted_run_bitwise(make, tmp_path, split):
    whole = make().learn(4 * STEPS)
    part = make().learn(split * STEPS)
    part.save(tmp_path / "agent")
    resumed = DynaPILCO.load(tmp_path / "agent", device="cpu")
    assert resumed.num_timesteps == split * STEPS
    resumed.learn((4 - split) * STEPS, reset_num_timesteps=False)
    assert_same(whole, resumed)
    part.learn((4 - split) * STEPS)  # and so does going on in memory
    assert_same(whole, part)


def test_the_run_does_not_depend_on_global_generators_nor_touch_them(make):
    agents = []
    for seed in (1, 2):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        agent = make().learn(2 * STEPS)
        agent.evaluate(1)
        agent.predict(np.zeros(4, np.float32))
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])
        assert before[2] == random.getstate()
        agents.append(agent)
    assert_same(*agents)


def test_history_and_data_fit_together(trained):
    state, history = trained.loop.state, trained.history
    assert [row.trial for row in history] == [0, 1, 2]
    assert [row.env_steps for row in history] == [60, 120, 180]
    assert [row.env_seconds for row in history] == pytest.approx([3, 6, 9])
    assert len(state.data) == state.env_steps == trained.num_timesteps == 180
    assert torch.bincount(state.data.trials).tolist() == [60] * 3
    for row in history:
        mine = state.data.trials == row.trial
        assert float(state.data.rewards[mine].sum()) == pytest.approx(row.ret, abs=1e-4)
    assert history[0].predicted_return is None
    for row in history[1:]:
        assert 0 <= row.coverage_95_one_step <= 1
        assert 0 <= row.coverage_95_horizon <= 1
        assert np.isfinite([row.predicted_return, row.model_nll]).all()
        assert row.nan_rollouts == 0
    starts = state.data.states[::STEPS]
    assert (starts[0] - starts[1]).abs().max() > 0  # each trial has its own reset seed


def test_transitions_follow_each_other(trained):
    data = trained.loop.state.data
    for trial in range(3):
        mine = data.trials == trial
        assert torch.equal(data.next_states[mine][:-1], data.states[mine][1:])


def test_actions_of_a_trial_are_those_of_its_policy(trained):
    state = trained.loop.state
    assert state.policy_trials == [1, 2]
    for row, trial in enumerate(state.policy_trials):
        mine = state.data.trials == trial
        actions = trained.loop.control.policy.act(state.policies[row], state.data.states[mine])
        torch.testing.assert_close(actions, state.data.actions[mine], atol=1e-5, rtol=1e-5)


def test_the_delivered_policy_has_the_best_real_and_predicted_return(make, monkeypatch):
    agent = make().learn(4 * STEPS)
    state = agent.loop.state
    for predicted, best in (([9.0, 0, 0], 0), ([0, 99.0, 0], 1), ([0, 0, float("nan")], None)):
        monkeypatch.setattr(
            "dynapilco.agent.control.searched.predicted_returns", lambda *_, p=predicted: torch.tensor(p)
        )
        real = torch.tensor([state.history[t].ret for t in state.policy_trials])
        score = [r + p if p == p else -np.inf for r, p in zip(real.tolist(), predicted, strict=True)]
        chosen = agent.loop.control.choose_delivered()
        assert chosen == int(np.argmax(score))
        assert best != 1 or chosen == best


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({"search": {"objective": "mean"}}, 1),
        ({"search": {"objective": "cvar"}}, 0),
        ({"search": {"objective": "mean_minus_std", "risk_weight": 2.0}}, 0),
        ({"search": {"objective": "optimistic"}}, 1),
        ({"search": {"optimism": 10.0}}, 1),
        ({"controller": "evolution", "evolution": {"objective": "cvar", "generations": 1, "population": 4}}, 0),
        ({"controller": "evolution", "evolution": {"objective": "optimistic", "generations": 1, "population": 4}}, 1),
    ],
)
def test_the_objective_decides_what_is_delivered(make, monkeypatch, settings, row):
    """Two policies that did as well for real; the second earns more in the mean, and sometimes nothing."""
    agent = make(**settings).learn(3 * STEPS)
    rewards = torch.tensor([[[0.5] * 10], [[0.0, 0.0, *[0.9] * 8]]]).expand(STEPS, 2, 1, 10)  # functions agree

    def judged(policy, params, imagination, generator, repeats, worth=None):
        return (worth or (lambda r: r.mean((0, 2, 3))))(rewards) * STEPS

    monkeypatch.setattr("dynapilco.agent.control.searched.predicted_returns", judged)
    state = agent.loop.state
    state.history = [replace(row, ret=1.0) for row in state.history]
    assert agent.loop.control.choose_delivered() == row


def test_the_best_policy_is_delivered_after_each_trial(make, monkeypatch):
    """Every prediction says that the newest policy is far better, or far worse."""
    for sign, rows_delivered in ((100.0, [0, 1, 2]), (-100.0, [0, 0, 0])):
        monkeypatch.setattr(
            "dynapilco.agent.control.searched.predicted_returns",
            lambda _, params, *__, k=sign: k * torch.arange(1.0 * len(params)),
        )
        agent, found = make().learn(STEPS), []
        for _ in range(3):
            found.append(agent.learn(STEPS).loop.state.delivered)
        assert found == rows_delivered
        assert agent.delivered_trial == agent.loop.state.policy_trials[rows_delivered[-1]]


def test_streams_of_the_loop_depend_on_seed_purpose_and_trial(make):
    first, second = make(seed=0), make(seed=1)
    seeds = [agent.loop.context.generator(p).initial_seed() for agent in (first, second) for p in ("model", "search")]
    first.learn(STEPS)
    seeds += [first.loop.context.generator(p).initial_seed() for p in ("model", "search")]
    assert len(set(seeds)) == len(seeds)


def test_predict_follows_the_delivered_policy(trained):
    state = trained.loop.state
    assert trained.delivered_trial == state.policy_trials[state.delivered]
    obs = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    expected = trained.loop.control.policy.act(state.policies[state.delivered], torch.as_tensor(obs))
    np.testing.assert_allclose(trained.predict(obs)[0], expected.numpy(), atol=1e-6)


def test_an_untrained_agent_acts_and_is_judged(make):
    agent = make()
    assert agent.delivered_trial is None
    assert agent.predict(np.zeros(4, np.float32))[0].shape == (1,)
    assert len(agent.evaluate(2).returns) == 2
    explored = agent.learn(STEPS)
    assert explored.delivered_trial is None
    assert len(explored.history) == 1


def test_evaluation_changes_nothing(make):
    agent, other = make().learn(2 * STEPS), make().learn(2 * STEPS)
    first = agent.evaluate(3)
    assert agent.evaluate(3) == first  # the same reset seeds every time
    assert len(first.returns) == len(first.successes) == 3
    assert len(set(first.returns)) == 3
    assert first.success_rate == np.mean(first.successes)
    assert_same(agent, other)
    assert_same(agent.learn(STEPS), other.learn(STEPS))
    with pytest.raises(UserError, match="episodes=0"):
        agent.evaluate(0)


def test_learning_goes_on_where_it_ended(make):
    agent = make().learn(STEPS + 1)  # trials are whole
    assert len(agent.history) == 2
    agent.learn(STEPS)
    assert len(agent.history) == 3
    assert agent.num_timesteps == STEPS  # counted anew
    agent.learn(STEPS, reset_num_timesteps=False)
    assert (len(agent.history), agent.num_timesteps) == (4, 2 * STEPS)


@pytest.mark.parametrize("steps", [0, -5, 2.5, "60", None])
def test_bad_numbers_of_steps(make, steps):
    agent = make()
    with pytest.raises(UserError, match="total_timesteps="):
        agent.learn(steps)
    assert agent.history == []


VARIANTS = {
    "sensor-noise": {"dynamics": {"noise": "observation"}, "env_kwargs": {"sensor_noise_std": 0.01}},
    "velocity": {"dynamics": {"targets": "velocity"}},
    "corrected": {"dynamics": {"targets": "corrected"}},
    "delta": {"dynamics": {"targets": "delta"}},
    "moments": {"rollout": {"propagation": "moment_matching"}},
    "dropout": {"inference": "mc_dropout", "inference_kwargs": {"cold_steps": 30, "warm_steps": 20}},
    "dropout-few-draws": {"inference": "dropout", "inference_kwargs": {"cold_steps": 30}, "rollout": {"draws": 2}},
    "rbf": {"policy": "RbfPolicy", "policy_kwargs": {"units": 5}},
    "linear": {"policy": "LinearPolicy"},
    "random-exploration": {"exploration": {"kind": "random", "trials": 1}},
    "relu": {"dynamics": {"activation": "relu"}},
    "pendulum": {"env": "dynapilco/PendulumSwingUp-v0"},
    "double": {"env": "dynapilco/DoubleCartPoleSwingUp-v0"},
    "pilco": {"env": "dynapilco/CartPoleSwingUpPILCO-v0"},
    "no-friction": {"env_kwargs": {"friction": 0.0}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_runs_and_resumes(make, tmp_path, name):
    agent, twin = make(**VARIANTS[name]), make(**VARIANTS[name])
    horizon = agent.task.horizon
    agent.learn(2 * horizon)
    assert len(agent.history) == 2
    assert np.isfinite(agent.history[1].predicted_return)
    assert np.isfinite(agent.history[1].model_nll)
    assert agent.history[1].nan_rollouts == 0
    actions = agent.loop.state.data.actions.numpy()
    assert ((actions >= agent.task.low) & (actions <= agent.task.high)).all()
    twin.learn(horizon).save(tmp_path / "twin")
    assert_same(agent, DynaPILCO.load(tmp_path / "twin", device="cpu").learn(horizon))


def test_the_section_settings_arrive(make):
    agent = make(
        exploration={"trials": 2, "kind": "random"},
        dynamics={"hidden": [7], "noise_floor": 0.01},
        search={"clip_norm": 3.0},
    )
    assert agent.config.exploration.trials == 2
    assert agent.config.dynamics.hidden == (7,)
    assert agent.loop.model.bayes.likelihood.floor == 0.01
    assert agent.config.search.clip_norm == 3.0
    assert [row.predicted_return is None for row in agent.learn(3 * STEPS).history] == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": "MlpPolcy"}, "did you mean MlpPolicy"),
        ({"policy_kwargs": {"units": 3}}, "unknown MlpPolicy option 'units': valid names are hidden"),
        ({"inference": "swagg"}, "unknown inference method 'swagg'"),
        (
            {"inference_kwargs": {"member": 3}},
            "unknown random_features option 'member': did you mean members",
        ),
        ({"env": "dynapilco/CartPole-v0"}, "expected a registered Gymnasium id"),
        ({"env": None}, "env=None"),
        ({"env": 3}, "expected a Gymnasium id"),
        ({"env": "FrozenLake-v1"}, "observation space Discrete"),
        ({"seed": -1}, "seed=-1"),
        ({"device": "cuda:99"}, "device='cuda:99'"),
        ({"search": {"step": 3}}, "unknown setting 'search.step': did you mean search.steps"),
        ({"rollout": {"propagation": "ts1"}}, "unknown propagation"),
        ({"exploration": {"kind": "sine"}}, "unknown exploration kind"),
        ({"exploration": {"trials": 0}}, "trials=0"),
        ({"dynamics": {"activation": "sin"}}, "activation='sin'"),
        ({"env": "dynapilco/CartPoleSwingUp-v0", "env_kwargs": {"no": 1}}, "does not take these options"),
    ],
)
def test_bad_settings(make, changes, words):
    with pytest.raises(UserError, match=words):
        make(**changes)


class Listener(Sink):
    def __init__(self):
        self.heard, self.trials, self.messages = [], [], []

    def start(self, config, trials):
        self.heard.append(("start", trials))

    def progress(self, trial, phase, done, total, metrics):
        self.heard.append((trial, phase, done, total))

    def trial(self, trial):
        self.trials.append(trial)

    def message(self, text):
        self.messages.append(text)


def test_sinks_hear_the_run(make, tmp_path):
    listener = Listener()
    agent = make(dynamics={"hidden": (12,)}, inference_kwargs={"members": 2, "cold_steps": 60}, search={"steps": 30})
    agent.attach([listener], tmp_path / "checkpoint").learn(2 * STEPS)
    assert listener.heard[0] == ("start", 2)
    assert (1, "model", 50, 60) in listener.heard
    assert (1, "policy", 25, 30) in listener.heard
    assert (1, "environment", 60, 60) in listener.heard
    assert [t.row for t in listener.trials] == agent.history
    assert listener.trials[0].fan is None
    fan = listener.trials[1].fan
    assert fan.predicted.shape[1:] == fan.observed.shape == (61, 4)
    assert fan.actions.shape == (60, 1)
    assert [text for text in listener.messages if not text.startswith("controller: pathwise")] == []
    assert rows(DynaPILCO.load(tmp_path / "checkpoint", device="cpu")) == rows(agent)


@pytest.mark.parametrize("inference", ["ensemble", "random_features"])
def test_a_fit_that_diverges_is_told_and_survived(make, inference):
    listener = Listener()
    kwargs = {"members": 2, "cold_steps": 30, "learning_rate": 1e30}
    agent = make(inference=inference, inference_kwargs=kwargs).attach([listener])
    agent.learn(2 * STEPS)
    assert any("the model fit diverged by step" in text for text in listener.messages)
    assert all(torch.isfinite(t).all() for t in agent.loop.state.model.values())
    assert np.isfinite(agent.history[1].model_nll)


def test_bad_numbers_from_the_environment_name_the_step(make):
    class Broken(gymnasium.Wrapper):
        def step(self, action):
            observation, *rest = super().step(action)
            self.count = getattr(self, "count", 0) + 1
            if self.count == 70:
                observation = observation * np.nan
            return observation, *rest

    agent = make(Broken(gymnasium.make("dynapilco/CartPoleSwingUp-v0")))
    with pytest.raises(UserError, match=r"trial 1: .* at step 9 .*non-finite observation"):
        agent.learn(2 * STEPS)
    assert [row.env_steps for row in agent.history] == [60, 69]


def test_an_environment_may_reuse_its_observation_array(make):
    class Reuse(gymnasium.Wrapper):
        def __init__(self, env):
            super().__init__(env)
            self.buffer = np.zeros(4, np.float32)

        def reset(self, **kwargs):
            observation, info = super().reset(**kwargs)
            self.buffer[:] = observation
            return self.buffer, info

        def step(self, action):
            observation, *rest = super().step(action)
            self.buffer[:] = observation
            return self.buffer, *rest

    env = gymnasium.make("dynapilco/CartPoleSwingUp-v0")
    assert_same(make(Reuse(env)).learn(2 * STEPS), make(env).learn(2 * STEPS))


def test_a_bare_environment_ends_after_its_horizon(make):
    class Endless(type(gymnasium.make("dynapilco/CartPoleSwingUp-v0").unwrapped)):
        steps = 0

        def step(self, action):
            self.steps += 1
            assert self.steps <= STEPS, "the environment has no time limit of its own"
            return super().step(action)

    agent = make(Endless())
    try:
        agent.learn(STEPS)
    except IndexError as error:  # the excitation is used up
        raise AssertionError from error
    assert len(agent.history) == 1


BOX = np.array([-1.0]), np.array([1.0])


@pytest.mark.parametrize("kind", ["multisine", "sinusoid", "random"])
def test_excitation(kind):
    low, high = np.array([-1.0, 2.0]), np.array([3.0, 2.5])
    actions = excitation(kind, 400, low, high, 0.05, np.random.default_rng(0))
    assert actions.shape == (400, 2)
    assert actions.dtype == np.float32
    assert ((actions >= low.astype(np.float32)) & (actions <= high.astype(np.float32))).all()
    assert (np.ptp(actions, axis=0) > 0.6 * (high - low)).all()
    again = excitation(kind, 400, low, high, 0.05, np.random.default_rng(0))
    np.testing.assert_array_equal(actions, again)
    jump = np.abs(np.diff(actions, axis=0)).mean(0) / (high - low)
    assert (jump < 0.15).all() if kind != "random" else (jump > 0.2).all()


@pytest.mark.parametrize("kind", ["multisine", "sinusoid"])
def test_a_system_of_days_is_excited_in_steps(kind):
    """Waves of seconds would turn thousands of times within a step of a day: their samples would be noise."""
    days, unknown, fast = (excitation(kind, 50, *BOX, dt, np.random.default_rng(0)) for dt in (86400.0, None, 0.2))
    np.testing.assert_array_equal(days, unknown)
    assert not np.array_equal(fast, unknown)
