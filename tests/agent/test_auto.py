"""``controller="auto"``: gradients where the reward has them, evolution where it has none."""

import gymnasium
import numpy as np
import pytest

from dynapilco import DynaPILCO
from dynapilco.agent.control.auto import ENOUGH, ENOUGH_BESIDE_LIFE, choose, informative_share
from dynapilco.agent.episode import run_episode
from dynapilco.cli.describe import described
from dynapilco.core.seeding import numpy_generator
from dynapilco.dynamics import Transitions
from dynapilco.tasks import make_env, task_of
from dynapilco.tracking.sink import Sink
from tests.agent.conftest import STEPS, build

PATHWISE = ("Pendulum-v1", "Reacher-v5", "Pusher-v5", "HalfCheetah-v5", "Hopper-v5",
            "Walker2d-v5", "Swimmer-v5", "dynapilco/CartPoleSwingUp-v0", "dynapilco/CartPoleSwingUpPILCO-v0",
            "dynapilco/PendulumSwingUp-v0", "dynapilco/DoubleCartPoleSwingUp-v0")  # fmt: skip
EVOLUTION = (
    "MountainCarContinuous-v0",
    "CartPole-v1",
    "Acrobot-v1",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
)


def visited(env, task, steps=60):
    flat, generator = task.flat(env), numpy_generator(0, "test")
    data = Transitions.empty(task.geometry.states, task.geometry.actions)
    while len(data) < steps:
        actions = generator.uniform(task.low, task.high, (steps, len(task.low)))
        data = data.append(run_episode(flat, lambda _, t, a=actions: a[t], len(data), steps).transitions(0))
    return data


@pytest.mark.parametrize("env_id", [*PATHWISE, *EVOLUTION])
def test_every_registered_task_has_a_way(env_id):
    env = make_env(env_id)
    task = task_of(env)
    data = visited(env, task)
    name, why = choose(task, data)
    assert name == ("pathwise" if env_id in PATHWISE else "evolution")
    share = informative_share(task, data)
    assert (share >= (ENOUGH_BESIDE_LIFE if task.ends else ENOUGH)) == (name == "pathwise")
    assert f"{share:.0%} of {len(data)} visited" in why
    env.close()


class Paid(gymnasium.Env):
    """A walk on a line; how it is paid is not known."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, pay):
        self.pay = pay

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(0, 0.1, 1).astype(np.float32)
        return self.x.copy(), {}

    def step(self, action):
        self.x = np.clip(self.x + 0.1 * action, -10, 10).astype(np.float32)
        return self.x.copy(), float(self.pay(self.x[0])), False, False, {}


@pytest.mark.parametrize(
    ("pay", "expected"),
    [(lambda x: -abs(x - 1), "pathwise"), (lambda x: 1.0, "evolution"), (lambda x: 0.0, "evolution"),
     (lambda x: float(x > 5), "evolution")],
)  # fmt: skip
def test_learned_rewards_are_judged_by_the_data(pay, expected):
    env = gymnasium.wrappers.TimeLimit(Paid(pay), 30)
    task = task_of(env)
    assert "reward" in task.learned
    assert choose(task, visited(env, task))[0] == expected


def test_a_cost_of_actions_is_not_a_way_to_go():
    class Costly(Paid):
        def step(self, action):
            after, _, *rest = super().step(action)
            return after, -0.1 * float(action[0]) ** 2, *rest

    env = gymnasium.wrappers.TimeLimit(Costly(None), 30)
    env.unwrapped.pay = lambda x: 0.0
    task = task_of(env)
    assert choose(task, visited(env, task))[0] == "evolution"


def test_exploration_goes_on_only_where_episodes_end_early():
    agent = DynaPILCO("MlpPolicy", gymnasium.wrappers.TimeLimit(Paid(lambda x: -abs(x - 1)), 20), seed=0,
                      search={"steps": 2, "screening_steps": 1, "fresh_starts": 1}).learn(40)  # fmt: skip
    assert [row.explored for row in agent.history] == [True, False]


SMALL = {"generations": 2, "population": 4, "fresh_starts": 4, "draws": 2, "particles": 1, "first_horizon": 10}


def falling(**changes):
    return build("CartPole-v1", controller="auto", evolution=SMALL, seed=0, **changes)


def test_what_was_chosen_is_said_kept_and_repeated(tmp_path):
    class Ear(Sink):
        def message(self, text):
            said.append(text)

    said = []
    agent = falling().attach(sinks=[Ear()])
    agent.learn(60)
    assert agent.loop.state.controller == "evolution"
    assert [text for text in said if "evolution strategies" in text and "0% of" in text]
    assert sum(row.explored for row in agent.history) > 1  # episodes of ten steps: more of them before the first model
    assert agent.history[-1].predicted_return is not None
    agent.save(tmp_path / "x")
    resumed = DynaPILCO.load(tmp_path / "x")
    assert resumed.loop.state.controller == "evolution"
    resumed.learn(10, reset_num_timesteps=False)
    agent.learn(10, reset_num_timesteps=False)
    assert [row.ret for row in resumed.history] == [row.ret for row in agent.history]
    assert resumed.history[-1].predicted_return == agent.history[-1].predicted_return


def test_auto_on_a_smooth_task_is_the_pathwise_run():
    auto, named = (
        build(controller="auto", seed=0).learn(2 * STEPS),
        build(controller="pathwise", seed=0).learn(2 * STEPS),
    )
    assert auto.loop.state.controller == "pathwise"
    assert [row.ret for row in auto.history] == [row.ret for row in named.history]


def test_the_listing_says_what_would_be_taken():
    rows = dict(described("CartPole-v1"))
    assert "evolution strategies" in rows["controller"]
    assert rows["imagined rollouts"] == "500 steps, starting by reset"
    assert "pathwise gradients" in dict(described("Pendulum-v1"))["controller"]
