"""Attributes of somebody's environment: meant for us and sound, meant for us and wrong, or not meant for us."""

import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dynapilco.core.errors import UserError
from dynapilco.tasks import Known, register_known, task_of
from dynapilco.tasks.known import _DESCRIPTIONS


class Cart(gymnasium.Env):
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    horizon = 5
    start_mean, start_std = np.zeros(3), 0.1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {}


def cart(**attributes):
    return type("Cart", (Cart,), attributes)()


NAN = float("nan")
WRONG = [
    ("dt", -1, "the seconds of a step, a finite number above 0"),
    ("dt", 0, "above 0"), ("dt", NAN, "above 0"), ("dt", "fast", "above 0"), ("dt", True, "above 0"),
    ("dt", np.array([0.1, 0.2]), "above 0"),
    ("angle_indices", (0.5,), "different whole numbers from 0 to 2"),
    ("angle_indices", (3,), "0 to 2"), ("angle_indices", (-1,), "0 to 2"), ("angle_indices", (True,), "0 to 2"),
    ("angle_indices", (1, 1), "different"), ("angle_indices", 1, "0 to 2"), ("angle_indices", "01", "0 to 2"),
    ("position_velocity_pairs", (0, 1), "pairs (position column, velocity column)"),
    ("position_velocity_pairs", ((0, 1, 2),), "pairs"), ("position_velocity_pairs", ((0, 7),), "0 to 2"),
    ("position_velocity_pairs", ((0, False),), "0 to 2"), ("position_velocity_pairs", ((0, 1), (1, 2)), "in one of"),
    ("position_velocity_pairs", ((0, 1.5),), "0 to 2"), ("position_velocity_pairs", {"x": "v"}, "pairs"),
    ("state_names", "xyz", "3 texts"), ("state_units", ("m",), "3 texts"), ("action_names", (1,), "1 texts"),
    ("start_mean", ("a", "b", "c"), "finite numbers"), ("start_mean", (0, NAN, 0), "finite numbers"),
    ("start_mean", ((1, 2), (3,)), "finite numbers"), ("start_mean", (0, 0), "(3,) numbers"),
    ("start_mean", None, "a start_mean beside it"), ("start_std", None, "a start_std beside it"),
    ("start_std", -0.1, "0 or more"), ("start_std", (True, False, True), "finite numbers"),
    ("horizon", "many", "a whole number of at least 1"), ("horizon", -5, "at least 1"), ("horizon", True, "at least 1"),
    ("horizon", 2.5, "at least 1"),
    ("gauges", {"reward": lambda env: 0.0}, "other than 'reward' and 'ended'"),
]  # fmt: skip


@pytest.mark.parametrize(("attribute", "value", "expected"), WRONG, ids=lambda v: str(v)[:24])
def test_what_cannot_be_meant_is_named_with_its_value(attribute, value, expected):
    named = {"start_mean": "start_std", "start_std": "start_mean"}[attribute] if value is None else attribute
    with pytest.raises(UserError, match=rf"^environment 'Cart': {named}=.*: expected .*{re.escape(expected)}"):
        task_of(cart(**{attribute: value}))


@pytest.mark.parametrize(
    ("attribute", "value", "why"),
    [
        ("success", False, "is bool, and a function of (states, xp) would be expected"),
        ("success", lambda self: True, "takes other arguments than (states, xp)"),
        ("dt", lambda self: 0.1, "is a function, and a value would be expected"),
        ("reward", lambda self, observation: 0.0, "takes other arguments than (state, action, next_state, xp)"),
        ("reward", "sparse", "is str, and a function"), ("margin", 0.5, "is float, and a function"),
        ("gauges", {"oil": 3.0}, "is dict, and a mapping of names to functions"), ("gauges", [1], "is list"),
        ("dt", property(lambda self: 1 / 0), "raises ZeroDivisionError: division by zero when it is read"),
    ],
)  # fmt: skip
def test_what_is_of_another_kind_is_left_alone_with_one_message(attribute, value, why):
    with pytest.warns(UserWarning, match=re.escape(f"Cart.{attribute} {why}")) as told:
        task = task_of(cart(**{attribute: value}))
    assert len(told) == 1
    assert (task.success, task.dt, task.learned, task.gauges) == (None, None, ("reward", "ended"), {})


def test_a_horizon_that_is_a_function_is_no_time_limit():
    with pytest.warns(UserWarning, match="horizon is a function"), pytest.raises(UserError, match="no time limit"):
        task_of(cart(horizon=lambda self: 5))


def test_numbers_of_numpy_are_numbers_and_none_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = cart(
            dt=np.array(0.1, np.float32),
            angle_indices=np.array([2]),
            position_velocity_pairs=np.array([[0, 1]]),
            horizon=np.int64(7),
            start_std=np.full(3, 0.5),
            success=None,
            state_units=None,
            reward=0.7,  # the last one, as many keep it
        )
        task = task_of(env)
    assert task.dt == pytest.approx(0.1)
    assert (task.geometry.angles, task.geometry.pairs, task.horizon) == ((2,), ((0, 1),), 7)
    assert type(task.geometry.angles[0]) is int
    assert task.start_std[:3].tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("success", "words"),
    [
        (lambda self, states, xp: xp.nothing(states), "its success fails on states (6, 3) (AttributeError"),
        (lambda self, states, xp: states[:, 5].any(), "its success fails on states (6, 3) (IndexError"),
        (lambda self, states, xp: states[:, 0] == 0, "its success gives array"),
        (lambda self, states, xp: "yes", "its success gives 'yes': expected a method success(states, xp)"),
        (lambda self, states, xp: None, "its success gives None"),
    ],
)
def test_a_success_rule_is_tried_first(success, words):
    with pytest.raises(UserError, match=re.escape(words)):
        task_of(cart(success=success))


def test_a_success_rule_that_works():
    for rule in (lambda states, xp: bool(states.sum() == 0), lambda states, xp: xp.all(states == 0)):
        assert task_of(cart(success=staticmethod(rule))).success(np.zeros((2, 3)), np)


def test_a_word_of_ours_that_raises_is_an_error():
    with pytest.raises(UserError, match="'Cart': reading its angle_indices raised ZeroDivisionError"):
        task_of(cart(angle_indices=property(lambda self: 1 / 0)))


@pytest.fixture
def registered():
    gymnasium.register("dynapilco-test/Cart-v0", entry_point=Cart, max_episode_steps=9)
    yield "dynapilco-test/Cart-v0"
    del gymnasium.registry["dynapilco-test/Cart-v0"]
    _DESCRIPTIONS.pop("dynapilco-test/Cart-v0", None)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (lambda env: Known(dt=-1.0), "'dynapilco-test/Cart-v0': dt=-1.0: expected"),
        (lambda env: Known(success=False), "success=False: expected"),  # here it is meant for us
        (lambda env: {"dt": 0.1}, "register_known gives {'dt': 0.1}: expected a Known"),
        (lambda env: env.nothing, "register_known raised AttributeError"),
    ],
)
def test_what_is_registered_is_meant_for_us(registered, known, words):
    register_known(registered)(known)
    with pytest.raises(UserError, match=re.escape(words)):
        task_of(gymnasium.make(registered))
