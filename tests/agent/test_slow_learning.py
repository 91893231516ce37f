"""Learning at full size: minutes, not seconds. Select with ``-m slow``."""

import pytest
import torch

from dynapilco import DynaPILCO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(("inference", "steps"), [("random_features", 360), ("ensemble", 540)])
def test_the_quick_start_is_solved(inference, steps):
    agent = DynaPILCO("MlpPolicy", "dynapilco/CartPoleSwingUp-v0", inference=inference, seed=1000, device="cpu")
    agent.learn(total_timesteps=steps)
    assert agent.evaluate(20).success_rate >= 0.9
    late = agent.history[-3:]
    assert all(row.coverage_95_one_step > 0.9 for row in late)
    assert all(abs(row.predicted_return - row.ret) < 0.1 * row.ret for row in late)


def test_the_pendulum_is_solved_with_the_same_settings():
    agent = DynaPILCO("MlpPolicy", "dynapilco/PendulumSwingUp-v0", seed=1000, device="cpu")
    agent.learn(total_timesteps=280)
    assert any(row.success for row in agent.history)


def test_sensor_noise_is_filtered_out_of_imagination():
    agent = DynaPILCO(
        "MlpPolicy",
        "dynapilco/CartPoleSwingUp-v0",
        env_kwargs={"sensor_noise_std": 0.01},
        dynamics={"noise": "observation"},
        seed=1000,
        device="cpu",
    )
    agent.learn(total_timesteps=420)
    assert any(row.success for row in agent.history)


def test_full_size_runs_repeat_bit_for_bit():
    def run():
        agent = DynaPILCO("MlpPolicy", "dynapilco/CartPoleSwingUp-v0", seed=1001, device="cpu")
        return agent.learn(total_timesteps=180).loop.state

    a, b = run(), run()
    assert torch.equal(a.policies, b.policies)
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)
    assert [row.ret for row in a.history] == [row.ret for row in b.history]
