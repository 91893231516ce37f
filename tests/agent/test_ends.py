"""Ends that are learned: probabilities from the record to the rollout, or a number where the method takes no other."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dynapilco import DynaPILCO
from dynapilco.imagination.replay import RealTransitions
from dynapilco.rollout import Trajectories, step_rewards
from dynapilco.tasks import task_of
from dynapilco.tasks.history import with_history
from dynapilco.tracking.sink import Sink

TINY = {
    "policy_kwargs": {"hidden": [8]},
    "search": {"steps": 8, "screening_steps": 4, "fresh_starts": 1},
    "rollout": {"total_particles": 8},
    "dynamics": {"hidden": (12,)},
    "exploration": {"least_steps": 30},
    "device": "cpu",
}


class Cliff(gymnasium.Env):
    """A cart on a plateau, paid for being far to the right, that falls off where x > 1."""

    observation_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    horizon = 20

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.array([self.np_random.uniform(0.2, 0.4), 0.0])
        return self.x.astype(np.float32), {}

    def step(self, action):
        self.x[1] = 0.8 * self.x[1] + 0.1 * float(action[0])
        self.x[0] += self.x[1]
        return self.x.astype(np.float32), float(self.x[0]), bool(self.x[0] > 1), False, {}


class Heard(Sink):
    def __init__(self):
        self.texts = []

    def message(self, text):
        self.texts.append(text)


def agent(inference_kwargs=None, inference="random_features", **changes):
    kwargs = {"members": 4, "cold_steps": 20, "warm_steps": 10, **(inference_kwargs or {})}
    return DynaPILCO("mlp", Cliff(), inference=inference, inference_kwargs=kwargs, seed=0, **{**TINY, **changes})


@pytest.mark.parametrize("history", [1, 2])
def test_the_two_functions_of_an_end(history):
    task = with_history(task_of(Cliff()), history)
    after = torch.zeros(3, task.geometry.states)
    after[:, -1] = torch.tensor([-4.0, 0.5, 3.0])
    some = torch.zeros(3, 1)
    assert task.geometry.binary == (task.geometry.states - 1,)
    assert task.ended(after, some, after, torch).tolist() == [False, True, True]
    torch.testing.assert_close(task.end_probability(after, some, after), after[:, -1].sigmoid())
    number = task.regressing_ends()
    assert number.geometry.binary == ()
    assert number.ended(after, some, after, torch).tolist() == [False, True, True]
    after[:, -1] = torch.tensor([0.0, 1.0, 0.0])  # as it is recorded
    for learned in (task, number):
        assert learned.was_end(after, some, after).tolist() == [False, True, False]


def test_rewards_are_weighted_by_the_survival_that_the_logits_say():
    task = task_of(Cliff())
    states = torch.zeros(4, 1, 1, 1, task.geometry.states)
    states[1:, ..., 2], states[1:, 0, 0, 0, 3] = 1.0, torch.tensor([-1.0, 1.0, -1.0])
    paths = Trajectories(states, torch.zeros(3, 1, 1, 1, 1))
    p = torch.tensor([-1.0, 1.0]).sigmoid()
    weights = torch.stack([torch.tensor(1.0), 1 - p[0], (1 - p[0]) * (1 - p[1])])
    torch.testing.assert_close(step_rewards(task, paths, smooth=True).flatten(), weights)
    assert step_rewards(task, paths).flatten().tolist() == [1, 1, 0]


@pytest.mark.parametrize("controller", ["pathwise", "evolution", "cem", "sac"])
def test_every_way_to_act_on_learned_ends(controller, tmp_path):
    small = {
        "evolution": {"generations": 3, "population": 4, "fresh_starts": 2, "draws": 2, "particles": 2},
        "planning": {"horizon": 4, "population": 8, "iterations": 2, "draws": 2, "particles": 2},
        "imagination": {"num_envs": 6, "prefill": 8, "least_updates": 20, "updates_per_step": 0.1},
    }
    learned = agent(controller=controller, controller_kwargs={"batch_size": 16} if controller == "sac" else {}, **small)
    learned.learn(60)
    last = learned.history[-1]
    assert last.end_brier is not None and 0 <= last.end_brier <= 1
    assert learned.loop.task.geometry.binary == (3,)
    again = DynaPILCO.load(learned.save(tmp_path / "agent") or tmp_path / "agent", env=Cliff())
    seen = np.array([[0.3, 0.0], [0.9, 0.1]], np.float32)
    if controller != "cem":  # whose plans are made anew, by random numbers of the trial
        assert np.array_equal(again.predict(seen)[0], learned.predict(seen)[0])
    env = learned.imagine(4)
    env.reset(seed=0)
    ended = [env.step(np.ones((4, 1), np.float32))[2] for _ in range(20)]
    assert np.array(ended).dtype == bool


def test_recorded_ends_are_ends_for_a_replay_buffer():
    learned = agent().learn(40)
    data = learned.loop.state.data
    real = RealTransitions.of(learned.loop.task, data)
    assert torch.equal(real.dones[:, 0], data.next_states[:, 3])
    assert 0 < real.dones.sum() < len(data)


def test_a_method_that_takes_no_probabilities_regresses_and_says_so():
    heard = Heard()
    learned = agent({"target_noise": True, "members": 2}, inference="ensemble")
    learned.loop.sinks = [heard]
    for _ in range(4):
        learned.loop.run_trial()
    said = [text for text in heard.texts if "regression" in text]
    assert len(said) == 1 and "target_noise=True" in said[0]
    assert learned.loop.task.geometry.binary == ()
    assert learned.loop.state.history[-1].end_brier is None


def test_a_model_of_an_older_version_goes_on_as_it_began():
    learned = agent({"members": 2}, inference="ensemble").learn(60)
    state = learned.loop.state
    old = agent({"members": 2}, inference="ensemble")
    old.loop.context.given = old.loop.context.given.regressing_ends()  # what the older version knew of it
    old.loop.context.restore(old.loop.state)
    old.loop.context.restore(type(state)(data=state.data, history=state.history, env_steps=state.env_steps))
    old.loop.update_model()
    newer = agent({"members": 2}, inference="ensemble")
    newer.loop.context.restore(old.loop.state)
    assert newer.loop.task.geometry.binary == ()
    assert "older version" in newer.loop.context.regresses
    newer.loop.update_model()
