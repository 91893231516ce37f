"""Vectors on both sides of any environment, learned columns, and what is known about it."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dynapilco.core.errors import UserError
from dynapilco.tasks import ActionCodec, FlatEnv, Known, register_known, task_of
from dynapilco.tasks.known import _DESCRIPTIONS

SPACES = {
    "box": spaces.Box(np.array([[-1, 0], [2, -5]], np.float32), np.array([[1, 3], [4, 5]], np.float32)),
    "float64": spaces.Box(-1, 1, (2,), np.float64),
    "discrete": spaces.Discrete(4, start=2),
    "several": spaces.MultiDiscrete([2, 3]),
    "grid": spaces.MultiDiscrete([[2, 3], [4, 2]]),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_actions_go_there_and_back(space):
    codec = ActionCodec.of(space)
    space.seed(0)
    for _ in range(20):
        action = space.sample()
        vector = codec.encode(action)
        assert vector.shape == (codec.columns,)
        assert np.allclose(codec.decode(vector), action, atol=1e-6)
        assert np.array_equal(codec.canonical(vector), vector)
        assert space.contains(codec.decode(vector)) or isinstance(codec.decode(vector), int)


def test_bounds_and_choices():
    box, several = ActionCodec.of(SPACES["box"]), ActionCodec.of(SPACES["several"])
    assert (box.choices, several.choices, several.columns) == ((), (2, 3), 5)
    assert box.canonical(np.array([9.0, 9, 9, 9])).tolist() == [1, 3, 4, 5]
    assert several.canonical(np.array([0.1, 0.3, -3.0, -1.0, -2.0])).tolist() == [0, 1, 0, 1, 0]
    rows = np.random.default_rng(0).normal(size=(7, 5))
    assert np.array_equal(several.canonical(rows), [several.canonical(row) for row in rows])


class Thermostat(gymnasium.Env):
    """A room of 2 x 1 numbers, three heater settings; ends above 30 degrees. It says nothing about itself."""

    observation_space = spaces.Box(-np.inf, np.inf, (2, 1), np.float32)
    action_space = spaces.Discrete(3)
    horizon = 12

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room = np.array([[self.np_random.uniform(15, 16)], [5.0]], np.float32)
        return self.room, {}

    def step(self, action):
        self.room[0] += 0.1 * (self.room[1] - self.room[0]) + 2.0 * action
        return self.room, -abs(float(self.room[0, 0]) - 20), bool(self.room[0, 0] > 30), False, {}


def test_what_is_not_known_is_learned():
    env = Thermostat()
    task = task_of(env)
    assert task.learned == ("reward", "ended")
    assert task.names == ("s0", "s1", "reward", "ended")
    assert (task.geometry.states, task.geometry.unseen, task.geometry.choices) == (4, (2, 3), (3,))
    flat = FlatEnv(env, task.codec, task.learned)
    first = flat.reset(seed=0)[0]
    assert first.shape == (4,)
    assert first[2:].tolist() == [0, 0]
    seen = [first]
    for _ in range(12):
        observation, reward, ended, _, _ = flat.step(np.array([0.0, 0, 1]))
        assert observation[2] == reward
        assert observation[3] == ended
        seen.append(observation)
        if ended:
            break
    assert seen[0][0] != seen[1][0]  # the environment writes to its own array; these are copies
    assert ended
    states = torch.as_tensor(np.stack(seen))
    rewards = task.reward(states[:-1], None, states[1:], torch)
    assert torch.equal(rewards, states[1:, 2])
    ends = [False] * (len(seen) - 2) + [True]
    assert task.was_end(states[:-1], torch.zeros(1), states[1:]).tolist() == ends
    imagined = torch.cat([states[:, :3], 10 * (2 * states[:, 3:] - 1)], 1)  # as a model says it: by the logit
    for learned, after in ((task, imagined), (task.regressing_ends(), states)):
        assert learned.ended(states[:-1], None, after[1:], torch).tolist() == ends
        likely = learned.end_probability(states[:-1], torch.zeros(1), after[1:])
        assert likely[-1] > 0.99
        assert likely[:-1].max() < 0.01


def test_starts_of_an_unknown_distribution_are_samples_of_it():
    task = task_of(Thermostat())
    starts = task.sample_start((5, 40), torch.Generator().manual_seed(0))
    assert starts.shape == (5, 40, 4)
    assert starts[..., 0].min() >= 15
    assert starts[..., 0].max() <= 16
    assert starts[..., 0].unique().numel() > 50
    assert (starts[..., 1] == 5).all()


def test_functions_by_keyword_count_first():
    task = task_of(Thermostat(), reward=lambda x, u, y, xp: -((y[..., 0] - 20) ** 2))
    assert task.learned == ()
    assert not task.ends
    task = task_of(Thermostat(), margin=lambda x, u, y, xp: (30 - y[..., 0]) / 10)
    assert task.learned == ("reward",)
    assert bool(task.ended(None, None, torch.tensor([31.0, 0, 0]), torch))


@pytest.fixture
def room():
    gymnasium.register("dynapilco-test/Room-v0", entry_point=Thermostat, max_episode_steps=9)
    yield "dynapilco-test/Room-v0"
    del gymnasium.registry["dynapilco-test/Room-v0"]
    _DESCRIPTIONS.pop("dynapilco-test/Room-v0", None)


def test_what_is_registered_for_an_id_is_used(room):
    @register_known(room)
    def describe(env):
        assert isinstance(env.unwrapped, Thermostat)
        return Known(reward=lambda x, u, y, xp: -xp.abs(y[..., 0] - 20), state_names=("room", "outside"), dt=60.0)

    task = task_of(gymnasium.make(room))
    assert (task.learned, task.names, task.dt, task.horizon) == ((), ("room", "outside"), 60.0, 9)


def test_a_reward_that_is_no_function_of_a_step_is_not_used():
    number = type("Number", (Thermostat,), {"reward": 0.3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert task_of(number()).learned == ("reward", "ended")
    method = type("Method", (Thermostat,), {"reward": lambda self, observation: 0.0})
    with pytest.warns(UserWarning, match="other arguments than"):
        assert task_of(method()).learned == ("reward", "ended")


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Dict(a=spaces.Box(-1, 1, (2,))), "FlattenObservation"),
        (spaces.Box(0, 255, (16, 16), np.uint8), "pixels"),
        (spaces.Discrete(3), "expected a Box"),
        (spaces.Box(-1, 1, (0,)), "empty"),
    ],
)
def test_observations_that_are_refused(space, words):
    kind = type("Odd", (Thermostat,), {"observation_space": space})
    with pytest.raises(UserError, match=words):
        task_of(kind())
