"""Adam: its update, its optimum, and members that do not mix."""

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import adam_begin, cosine_rate
from dynapilco.inference.method import Clock
from dynapilco.inference.methods.adam import Adam
from tests.inference.harness import conjugate, gen
from tests.inference.methods import point_checks as checks
from tests.inference.methods.natural_checks import fixed_initial_weights  # noqa: F401


class Restless(Adam):
    """Twice the gradient: Adam's steps hardly see it, the moments do."""

    def gradients(self, state, batch, generator):
        values, gradients = super().gradients(state, batch, generator)
        return values, {name: 2 * gradient for name, gradient in gradients.items()}


def check_steps(method):
    """Three updates against the equations of the paper, moments included, 1e-12."""
    problem = conjugate()
    state = method.init(problem.model, gen())
    method.begin(state, problem.target, gen())
    theta = state["params"][0].clone()
    m = v = torch.zeros_like(theta)
    for t in range(1, 4):
        method.step(state, problem.target.batch(), Clock(t - 1, 100), gen())
        g = problem.precision @ (theta - problem.mean) / 200
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        rate = cosine_rate(0.02, t - 1, 100)
        theta = theta - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.99**t)).sqrt() + 1e-8)
    torch.testing.assert_close(state["params"][0], theta, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state["adam_first_params"][0], m, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state["adam_second_params"][0], v, atol=1e-12, rtol=1e-12)


def test_steps_equal_the_paper():
    check_steps(Adam(learning_rate=0.02))


def test_a_broken_step_is_noticed():
    with pytest.raises(AssertionError):
        check_steps(Restless(learning_rate=0.02))


def test_the_optimum_is_the_posterior_mean():
    problem = conjugate()
    state = problem.fitted(Adam(members=2, learning_rate=0.05), 800)
    torch.testing.assert_close(state["params"], problem.mean.expand(2, -1), atol=1e-5, rtol=0)


def test_a_warm_start_forgets_the_moments():
    problem = conjugate()
    state = problem.fitted(Adam(), 20)
    kept = state["params"].clone()
    adam_begin(state, ("params", "points"))
    Adam().begin(state, problem.target, gen())
    assert torch.equal(state["params"], kept)
    assert all(not state[f"adam_{k}_params"].any() for k in ("first", "second", "count"))


def test_what_every_point_estimate_does():
    checks.check_members(Adam(), ("params", "points"))
    checks.check_any_module(Adam())
    checks.check_warm_start(Adam(learning_rate=0.03))
    checks.check_own_loop(Adam())
    assert Adam(members=3).natural_draws(10) == 3
    for option in ({"learning_rate": 0.0}, {"members": 0}, {"cold_steps": 0}, {"batch_size": 0}, {"temperature": 0.0}):
        (name,) = option
        with pytest.raises(UserError, match=f"{name}="):
            Adam(**option)
