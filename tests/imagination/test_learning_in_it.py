"""What agents that learn in the model are made of: mixed batches, agents as tensors, schedules, private randomness."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dynapilco.core.errors import UserError
from dynapilco.core.isolation import PrivateRandomness
from dynapilco.dynamics import Transitions
from dynapilco.imagination.config import ImaginationConfig
from dynapilco.imagination.learner import algorithm_class, build_agent, from_state, is_finite, to_state
from dynapilco.imagination.replay import MixedReplayBuffer, RealTransitions
from dynapilco.imagination.spaces import NoEnv, learning_task
from tests.planning.test_planner import GEOMETRY, make_task

CPU = torch.device("cpu")


def real_data(task, count=50):
    g = torch.Generator().manual_seed(0)
    states, after = torch.randn(count, 2, generator=g), torch.randn(count, 2, generator=g)
    actions = torch.rand(count, 1, generator=g) * 4 - 2
    return Transitions(states, actions, after, torch.full((count,), 7.0), torch.zeros(count, dtype=torch.int64))


def test_a_batch_has_its_share_of_real_rows():
    task = make_task(margin=lambda x, u, y, xp: 0.3 - y[..., 0])
    data = real_data(task)
    real = RealTransitions.of(learning_task(task), data)
    assert torch.equal(real.dones[:, 0] > 0, data.next_states[:, 0] >= 0.3)
    np.testing.assert_allclose(real.actions, data.actions / 2, rtol=1e-6)
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    buffer = MixedReplayBuffer(400, space, task.codec.space, "cpu", 4, real=real, real_share=0.25, seed=1)
    for _ in range(10):
        buffer.add(np.ones((4, 2)), np.ones((4, 2)), np.zeros((4, 1)), np.full(4, -1.0), np.zeros(4), [{}] * 4)
    batch = buffer.sample(64)
    assert (batch.rewards == 7).sum() == 16
    assert (batch.rewards == -1).sum() == 48
    assert batch.observations.shape == batch.next_observations.shape == (64, 2)
    assert torch.is_floating_point(batch.actions)
    assert len({tuple(row) for row in batch.observations[:16].tolist()}) > 8
    none = MixedReplayBuffer(400, space, task.codec.space, "cpu", 4, real=real, real_share=1.0, seed=1)
    assert (none.sample(10).rewards == 7).all()


def test_choices_are_stored_as_numbers():
    task = make_task(geometry=replace(GEOMETRY, actions=3, choices=(3,)), space=spaces.Discrete(3, start=5))
    seen = learning_task(task)
    assert seen.codec.space == spaces.Discrete(3)
    data = replace(real_data(task, 4), actions=torch.eye(3)[[2, 0, 1, 2]])
    assert RealTransitions.of(seen, data).actions.tolist() == [[2], [0], [1], [2]]


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg", "dqn", "ppo", "a2c"])
def test_an_agent_as_tensors(name):
    task = make_task()
    if name == "dqn":
        task = make_task(geometry=replace(GEOMETRY, actions=3, choices=(3,)), space=spaces.Discrete(3))
    small = {"policy_kwargs": {"net_arch": [8]}}
    agent, other = (build_agent(name, NoEnv(learning_task(task)), CPU, small) for _ in range(2))
    for optimiser in {id(o): o for o in _optimisers(agent)}.values():
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter)
        optimiser.step()
    named = to_state(agent)
    assert is_finite(agent)
    assert any("exp_avg" in key or "square_avg" in key for key in named)
    from_state(other, named)
    restored = to_state(other)
    assert restored.keys() == named.keys()
    assert all(torch.equal(restored[key], named[key]) and restored[key].dtype == named[key].dtype for key in named)
    with pytest.raises(UserError, match="does not fit"):
        from_state(other, {key: value for key, value in named.items() if "weight" not in key})


def _optimisers(agent):
    from operator import attrgetter

    names, _ = agent._get_torch_save_params()
    return [attrgetter(name)(agent) for name in names if "optimizer" in name]


def test_the_length_grows_as_it_is_told():
    config = ImaginationConfig(length=1, final_length=5, grow_from=1000, grow_until=2000)
    assert [config.length_at(steps) for steps in (0, 1000, 1500, 2000, 9000)] == [1, 1, 3, 5, 5]
    assert ImaginationConfig(length=4).length_at(10_000) == 4
    assert ImaginationConfig(updates_per_step=3, least_updates=50).updates(10) == 50
    assert ImaginationConfig(updates_per_step=3, least_updates=50).updates(100) == 300
    for given, words in (
        ({"grow_from": 5, "grow_until": 3, "final_length": 9}, "grow_until=3: expected .* no fewer than grow_from=5"),
        ({"final_length": 9}, "grow_until=0: expected the environment steps"),  # else it would be there from the start
        ({"grow_from": 5, "grow_until": 8}, "grow_from=5: expected a final_length"),
        ({"grow_until": 8}, "grow_until=8: expected a final_length"),
        ({"final_length": 0, "grow_until": 8}, "final_length=0: expected at least 1"),
    ):
        with pytest.raises(UserError, match=words):
            ImaginationConfig(**given)


def test_private_randomness_goes_on_and_leaves_nothing():
    def draws(private):
        with private.used():
            return float(torch.rand(())), float(np.random.rand()), float(np.random.randn())

    outside, legacy = torch.get_rng_state(), np.random.get_state()
    private = PrivateRandomness(3, CPU)
    first, second = draws(private), draws(private)
    assert first != second
    torch.rand(1), np.random.rand(2)
    again = PrivateRandomness(3, CPU)
    assert draws(again) == first
    np.random.rand()
    assert draws(again) == second
    assert draws(PrivateRandomness(4, CPU)) != first
    torch.set_rng_state(outside)
    np.random.set_state(legacy)
    with pytest.raises(ZeroDivisionError), private.used():
        torch.rand(1 + int(np.random.rand() > 2)) / (1 // 0)
    assert torch.equal(torch.get_rng_state(), outside)
    assert np.array_equal(np.random.get_state()[1], legacy[1])


def test_the_words_name_classes():
    assert algorithm_class("sac").__name__ == "SAC"
    with pytest.raises(UserError, match="td3"):
        algorithm_class("td4")
