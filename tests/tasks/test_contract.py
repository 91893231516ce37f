"""What environments may give, and what is refused with the values that were given."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dynapilco.core.errors import EnvironmentFault, UserError
from dynapilco.tasks import ActionCodec, FlatEnv, task_of

ZERO = np.zeros(1, np.float32)


class Valve(gymnasium.Env):
    """Two numbers in [-1, 1]; ``given`` replaces what reset and step return, by the name of the part."""

    horizon = 6

    def __init__(self, at_reset=False, **given):
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.at_reset, self.given = at_reset, given

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        given = self.given if self.at_reset else {}
        return given.get("result", (given.get("observation", np.zeros(2, np.float32)), given.get("info", {})))

    def step(self, action):
        parts = {"observation": np.full(2, 0.5), "reward": 1.0, "terminated": False, "truncated": False, "info": {}}
        parts |= self.given
        return parts.get("result", tuple(parts[name] for name in list(parts)[:5]))


def flat(env):
    return FlatEnv(env, ActionCodec.of(env.action_space))


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("observation", np.array([0.1, np.nan]), r"non-finite observation \[0.1, nan\]"),
        ("observation", np.array([0.1, 1e300]), r"non-finite observation \[0.1, 1e\+300\]"),
        (
            "observation",
            np.zeros(3),
            r"has the shape \(3,\) and the type float64: expected numbers of the shape \(2,\)",
        ),
        ("observation", np.array([1j, 2]), "the type complex128: expected numbers"),
        ("observation", [[1.0], [2.0, 3.0]], r"observation \[\[1.0\], \[2.0, 3.0\]\]: expected an array \(2,\)"),
        ("observation", None, "observation None has the shape"),
        ("observation", {"x": 1.0}, "observation {'x': 1.0} has the shape"),
        ("reward", np.inf, "non-finite reward inf"),
        ("reward", 1e39, r"non-finite reward 1e\+39"),
        ("reward", None, "reward None: expected a number"),
        ("reward", "1.0", "reward '1.0': expected a number"),
        ("reward", np.ones(3), r"reward array\(\[1., 1., 1.\]\): expected a number"),
        ("terminated", 0.5, "terminated 0.5: expected True or False"),
        ("terminated", None, "terminated None: expected True or False"),
        ("truncated", "no", "truncated 'no': expected True or False"),
        ("terminated", np.array([True, False]), "expected True or False"),
        ("info", None, "info None: expected a dict"),
        ("result", (np.zeros(2), 1.0, False, {}), r"expected \(observation, reward, terminated, truncated, info\)"),
        ("result", None, "step returned None"),
    ],
)
def test_a_step_that_is_refused(part, value, words):
    env = flat(Valve(**{part: value}))
    env.reset(seed=0)
    with pytest.raises(EnvironmentFault, match=words):
        env.step(ZERO)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("observation", np.full(2, np.inf), r"non-finite observation \[inf, inf\]"),
        ("observation", np.zeros((1, 2)), r"the shape \(1, 2\)"),
        ("result", np.zeros(2), r"reset returned array.*expected \(observation, info\)"),
    ],
)
def test_a_reset_that_is_refused_also_while_the_task_is_read(part, value, words):
    with pytest.raises(EnvironmentFault, match=words):
        flat(Valve(True, **{part: value})).reset(seed=0)
    with pytest.raises(UserError, match=f"'Valve': .*{words}"):
        task_of(Valve(True, **{part: value}))


@pytest.mark.parametrize(
    ("part", "value", "read"),
    [
        ("reward", np.float32(2), 2.0), ("reward", np.array([2.0]), 2.0), ("reward", np.array(2), 2.0),
        ("reward", 2, 2.0), ("reward", True, 1.0), ("terminated", np.bool_(True), True), ("terminated", 1, True),
        ("terminated", np.array([False]), False),
    ],
)  # fmt: skip
def test_what_can_only_mean_one_thing_is_taken_for_it(part, value, read):
    env = flat(Valve(**{part: value}))
    env.reset(seed=0)
    got = env.step(ZERO)[1 if part == "reward" else 2]
    assert got == read
    assert type(got) is type(read)


def test_a_reset_without_a_seed_is_told_what_to_take():
    class Old(Valve):
        def reset(self):
            return np.zeros(2, np.float32), {}

    with pytest.raises(UserError, match=r"unexpected keyword argument 'seed'; expected reset\(self, \*, seed=None"):
        task_of(Old())


def test_an_exception_keeps_its_name_and_its_cause():
    class Torn(Valve):
        def step(self, action):
            raise OSError("the cable\nis torn")

    env = flat(Torn())
    env.reset(seed=0)
    with pytest.raises(EnvironmentFault, match="step raised OSError: the cable is torn") as caught:
        env.step(ZERO)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("when", ["step", "reset"])
@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("observation_space", spaces.Box(-1, 1, (3,), np.float32)),
        ("observation_space", spaces.Box(-1, 1, (2,), np.float64)),
        ("observation_space", spaces.Box(-1, 2, (2,), np.float32)),
        ("action_space", spaces.Box(-2, 2, (1,), np.float32)),
        ("action_space", spaces.Discrete(2)),
    ],
)
def test_spaces_that_change_are_found(name, space, when):
    inner = Valve()
    env = flat(inner)
    env.reset(seed=0)
    env.step(ZERO)
    setattr(inner, name, space)
    with pytest.raises(EnvironmentFault, match=f"its {name} changed from Box.* to (Box|Discrete)"):
        env.step(ZERO) if when == "step" else env.reset(seed=1)


def test_bounds_written_in_place_are_found_and_reach_no_one():
    inner = Valve()
    task = task_of(inner)
    env = task.flat(inner)
    env.reset(seed=0)
    inner.action_space.high[:] = 5
    assert task.high.tolist() == [1]
    assert env.codec.decode(np.array([7.0])).tolist() == [1]
    with pytest.raises(EnvironmentFault, match="its action_space changed"):
        env.reset(seed=1)


def test_an_equal_space_made_anew_is_the_same():
    class Anew(Valve):
        observation_space = property(lambda self: spaces.Box(-1.0, 1.0, (2,), np.float32), lambda self, _: None)

    env = flat(Anew())
    env.reset(seed=0)
    assert env.step(ZERO)[0].tolist() == [0.5, 0.5]


def test_leaving_the_box_is_told_once_with_the_values():
    env = flat(Valve(observation=np.array([0.25, 1.5])))
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=r"column 1 is 1.5 and should lie in \[-1.0, 1.0\], in \[0.25, 1.5\]"):
        assert env.step(ZERO)[0].tolist() == [0.25, 1.5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.step(ZERO)
        rounded = flat(Valve(observation=np.array([0.0, 1 + 1e-6])))
        rounded.reset(seed=0)
        rounded.step(ZERO)


def test_no_array_is_shared():
    class Shared(Valve):
        def __init__(self):
            super().__init__()
            self.buffer = np.zeros(2, np.float32)

        def reset(self, *, seed=None, options=None):
            self.buffer[:] = 0
            return self.buffer, {}

        def step(self, action):
            self.buffer += 0.25
            action[:] = 9.0
            return self.buffer, 0.0, False, False, {}

    inner, sent = Shared(), np.array([0.5], np.float32)
    env = flat(inner)
    seen = [env.reset(seed=0)[0], env.step(sent)[0], env.step(sent)[0]]
    assert [row.tolist() for row in seen] == [[0, 0], [0.25, 0.25], [0.5, 0.5]]
    assert sent.tolist() == [0.5]


def test_an_unbounded_action_space_is_told_what_to_do_and_doing_it_helps():
    env = Valve()
    env.action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    with pytest.raises(UserError, match=r"is unbounded: .*TransformAction\(env, lambda action: action, gym"):
        task_of(env)
    limit = 3
    bounded = gymnasium.wrappers.TransformAction(env, lambda action: action, gymnasium.spaces.Box(-limit, limit, (1,)))
    assert task_of(bounded).high.tolist() == [3]
