"""A learned terminal value, on chains whose values are known."""

from dataclasses import replace

import pytest
import torch

from dynapilco.dynamics import Geometry
from dynapilco.rollout import Paths, TerminalValue, Trajectories, fit_value, step_rewards
from dynapilco.rollout.terminal import LAMBDA, lambda_returns
from tests.search.test_pathwise import GEOMETRY, make_task

LINE = Geometry(1, 1)
GAMMA = 0.9


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def decaying(steps=5, rows=200, ends=0.0):
    """x' = 0.8 x, reward x, and an end with probability ``ends`` at each step."""
    x = 2 * torch.rand(1, rows, 1, generator=gen()) - 1
    states = torch.cat([x * 0.8**t for t in range(steps + 1)])
    goes_on = torch.full((steps, rows), 1 - ends)
    return Paths(states, states[:-1, :, 0].clone(), goes_on)


@pytest.mark.parametrize("ends", [0.0, 0.3])
def test_values_of_a_decaying_line(ends):
    """V(x) = x / (1 - 0.8 gamma (1 - p)), far beyond the five steps that a path lasts."""
    value, error = fit_value(LINE, [decaying(ends=ends)], GAMMA, (-1.0, 1.0), gen(1))
    x = torch.linspace(-0.9, 0.9, 13)
    exact = x / (1 - 0.8 * GAMMA * (1 - ends))
    torch.testing.assert_close(value(x.unsqueeze(1)), exact, atol=0.15, rtol=0)
    assert 0 <= error < 0.1
    assert value(torch.zeros(2, 3, 4, 1)).shape == (2, 3, 4)


def test_a_constant_reward_is_worth_all_that_is_to_come_and_nothing_after_an_end():
    forever = Paths(torch.rand(4, 50, 1, generator=gen()), torch.ones(3, 50), torch.ones(3, 50))
    value, _ = fit_value(LINE, [forever], GAMMA, (0.0, 1.0), gen())
    torch.testing.assert_close(value(torch.full((3, 1), 0.5)), torch.full((3,), 10.0), atol=0.4, rtol=0)
    last = Paths(forever.states, forever.rewards, torch.zeros(3, 50))
    value, _ = fit_value(LINE, [last], GAMMA, (0.0, 1.0), gen())
    torch.testing.assert_close(value(torch.full((3, 1), 0.5)), torch.ones(3), atol=0.1, rtol=0)


def test_values_are_found_where_rewards_would_allow_a_thousand_times_as_much():
    """100 at a goal that ends the episode, -0.05 a step before: at most 100, though 100 a step would make 99,900."""
    discount, paths = 1 - 1 / 999, []
    for away in range(20, 200, 20):
        left = away - torch.arange(away + 1.0).unsqueeze(1)
        at_goal = (left[:-1] == 1).float()
        paths.append(Paths((left / 200).unsqueeze(2), 100 * at_goal - 0.05 * (1 - at_goal), 1 - at_goal))
    value, error = fit_value(LINE, paths, discount, (-0.05, 100.0), gen())
    left = torch.tensor([1.0, 50.0, 100.0, 150.0])
    exact = 100 * discount ** (left - 1) - 0.05 * (1 - discount ** (left - 1)) / (1 - discount)
    torch.testing.assert_close(value((left / 200).unsqueeze(1)), exact, atol=2.0, rtol=0)
    assert 0 < error < 0.1


def test_lambda_returns_are_mixtures_of_returns_of_all_lengths():
    paths = decaying(steps=3, rows=4, ends=0.1)
    values = torch.randn(4, 4, generator=gen(2))

    def after(t, n):  # n steps from t on, then the value
        if n == 0:
            return values[t]
        return paths.rewards[t] + GAMMA * 0.9 * after(t + 1, n - 1)

    mixed = (1 - LAMBDA) * after(0, 1) + (1 - LAMBDA) * LAMBDA * after(0, 2) + LAMBDA**2 * after(0, 3)
    torch.testing.assert_close(lambda_returns(values, paths, GAMMA)[0], mixed)


def test_values_stay_within_what_rewards_allow_wherever_they_are_asked_for():
    value, _ = fit_value(LINE, [decaying()], GAMMA, (-1.0, 1.0), gen())
    far = value(torch.tensor([[-1e6], [1e6]]))
    assert far.abs().max() <= 10
    x = torch.tensor([[0.3]], requires_grad=True)
    value(x).sum().backward()
    assert x.grad.item() == pytest.approx(1 / (1 - 0.8 * GAMMA), rel=0.3)


def test_one_seed_one_value_and_it_survives_being_saved():
    one, two = (fit_value(LINE, [decaying()], GAMMA, (-1.0, 1.0), gen(3))[0] for _ in range(2))
    x = torch.linspace(-1, 1, 7).unsqueeze(1)
    assert torch.equal(one(x), two(x))
    assert torch.equal(TerminalValue.of_tensors(LINE, one.tensors())(x), one(x))


def test_the_last_step_earns_what_lies_beyond():
    task = make_task(lambda x, u, y, xp: xp.ones_like(y[..., 0]))
    states = torch.randn(4, 2, 3, 5, 2, generator=gen(), requires_grad=True)
    rolled = Trajectories(states, torch.zeros(3, 2, 3, 5, 1))
    two = Paths(torch.randn(4, 9, 2, generator=gen()), torch.rand(3, 9, generator=gen()), torch.ones(3, 9))
    value, _ = fit_value(GEOMETRY, [two], GAMMA, (0.0, 1.0), gen())
    plain, more = (step_rewards(task, rolled, discount=0.5, value=v) for v in (None, value))
    assert torch.equal(more[:-1], plain[:-1])
    torch.testing.assert_close(more[-1] - plain[-1], 0.5**3 * value(states[-1]))
    (gradient,) = torch.autograd.grad(more.sum(), states)
    assert gradient[-1].abs().sum() > 0
    assert gradient[:-1].abs().sum() == 0


@pytest.mark.parametrize("smooth", [False, True])
def test_nothing_lies_beyond_an_end(smooth):
    margin = lambda x, u, y, xp: 100.0 * (1 - y[..., 0].abs())  # noqa: E731
    task = replace(make_task(lambda x, u, y, xp: xp.ones_like(y[..., 0])), margin=margin)
    states = torch.zeros(4, 1, 1, 2, 2)
    states[2, 0, 0, 0, 0] = 3.0  # the first particle ends in the second step
    value, _ = fit_value(GEOMETRY, [Paths(states[:, 0, 0], torch.ones(3, 2), torch.ones(3, 2))], GAMMA, (0, 1), gen())
    rewards = step_rewards(task, Trajectories(states, torch.zeros(3, 1, 1, 2, 1)), smooth, value=value)
    assert rewards[-1, 0, 0, 0] == pytest.approx(0.0, abs=1e-6)
    assert rewards[-1, 0, 0, 1] == pytest.approx(1 + float(value(states[-1, 0, 0, 1])))
