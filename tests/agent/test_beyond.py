"""Agents whose short rollouts and plans end with a learned value."""

import pytest
import torch

from dynapilco import DynaPILCO
from dynapilco.core.errors import UserError
from tests.agent.conftest import STEPS, build

SHORT = {"horizon": 3, "terminal_value": "learned"}
PLANNED = {"horizon": 3, "population": 12, "iterations": 2, "draws": 2, "particles": 1, "terminal_value": "learned"}
WAYS = {"pathwise": {"rollout": SHORT}, "cem": {"planning": PLANNED}}


def agent_of(controller, **changes):
    settings = {name: {**values, **changes} for name, values in WAYS[controller].items()}
    return build(controller=controller, seed=0, **settings)


@pytest.mark.parametrize("controller", WAYS)
def test_a_value_is_learned_kept_and_resumed(controller, tmp_path):
    whole = agent_of(controller).learn(4 * STEPS)
    errors = [row.value_error for row in whole.history]
    first = 2 if controller == "pathwise" else 1  # a policy has to be there before it is worth something
    assert all(error is None for error in errors[:first])
    assert all(0 < error < 2 for error in errors[first:])
    half = agent_of(controller).learn(3 * STEPS)
    half.save(tmp_path / "x")
    resumed = DynaPILCO.load(tmp_path / "x").learn(STEPS, reset_num_timesteps=False)
    assert [row.value_error for row in resumed.history] == errors
    assert resumed.history[-1].ret == whole.history[-1].ret
    assert all(torch.equal(t, whole.loop.state.value[name]) for name, t in resumed.loop.state.value.items())


@pytest.mark.parametrize("controller", WAYS)
def test_it_changes_what_is_done(controller):
    returns = [agent_of(controller, terminal_value=word).learn(4 * STEPS).history for word in ("learned", "none")]
    assert returns[0][-1].ret != returns[1][-1].ret
    assert returns[0][0].ret == returns[1][0].ret
    assert returns[1][-1].value_error is None


@pytest.mark.parametrize("controller", WAYS)
def test_refused_where_nothing_lies_beyond(controller):
    with pytest.raises(UserError, match="terminal_value='learned': imagined rollouts last the whole trial of"):
        agent_of(controller, horizon=10_000)
    with pytest.raises(UserError, match="terminal_value"):
        agent_of(controller, terminal_value="lerned")


def test_refused_beside_powers_of_rewards():
    with pytest.raises(UserError, match="reward powers of 1, not"):
        build(rollout=SHORT, search={"initial_reward_power": 0.5})
