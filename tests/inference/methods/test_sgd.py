"""SGD with momentum: its update, its optimum, and gradients that are cut."""

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, FanInNormal, Gaussian, StackedNetwork, Target, mlp
from dynapilco.inference.adam import cosine_rate
from dynapilco.inference.method import Clock
from dynapilco.inference.methods.sgd import SGD
from tests.inference.harness import conjugate, gen
from tests.inference.methods import point_checks as checks
from tests.inference.methods.natural_checks import fixed_initial_weights  # noqa: F401


class Still(SGD):
    """The velocity is forgotten at each step."""

    def step(self, state, batch, clock, generator):
        self.begin(state, None, generator)
        return super().step(state, batch, clock, generator)


def check_steps(method):
    """Three updates against the equations, 1e-12."""
    problem = conjugate()
    state = method.init(problem.model, gen())
    method.begin(state, problem.target, gen())
    theta, velocity = state["params"][0].clone(), torch.zeros(5, dtype=torch.float64)
    for t in range(3):
        values = method.step(state, problem.target.batch(), Clock(t, 100), gen())
        if t == 0:
            at_start = problem.target.potential(theta.unsqueeze(0), state["points"])
            torch.testing.assert_close(values, at_start)
        g = problem.precision @ (theta - problem.mean) / 200
        if method.max_norm is not None:
            g = g * min(1.0, method.max_norm / float(g.norm()))
        velocity = method.momentum * velocity + g
        rate = method.learning_rate if method.schedule == "constant" else cosine_rate(method.learning_rate, t, 100)
        theta = theta - rate * velocity
    torch.testing.assert_close(state["params"][0], theta, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state["velocity_params"][0], velocity, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("max_norm", [None, 0.3])
def test_steps_equal_the_paper(schedule, max_norm):
    check_steps(SGD(schedule=schedule, max_norm=max_norm, momentum=0.8))


def test_a_broken_step_is_noticed():
    with pytest.raises(AssertionError):
        check_steps(Still())


def test_the_optimum_is_the_posterior_mean():
    problem = conjugate()
    for batch_size, tolerance in ((None, 1e-6), (50, 0.02)):
        state = problem.fitted(SGD(members=2, learning_rate=0.02, batch_size=batch_size), 800)
        torch.testing.assert_close(state["params"], problem.mean.expand(2, -1), atol=tolerance, rtol=0)


def test_cut_gradients_survive_small_noise():
    model = BayesianModel(StackedNetwork(mlp(1, 1, (8,))), Gaussian(initial=0.0051), FanInNormal(), 1)
    x = torch.linspace(-2, 2, 30).unsqueeze(1)
    target, method = Target(model, x, torch.sin(x)), SGD()
    state = method.init(model, gen())
    method.begin(state, target, gen())
    for t in range(50):
        before = state["params"].clone()
        method.step(state, target.batch(), Clock(t, 1000), gen())
        assert (state["params"] - before).norm() <= 0.05 * 1.0 / (1 - 0.9) + 1e-6
    assert state["velocity_points"].any()


def test_what_every_point_estimate_does():
    checks.check_members(SGD(), ("params", "points", "velocity_params"))
    checks.check_any_module(SGD())
    checks.check_warm_start(SGD(), 600)
    checks.check_own_loop(SGD())
    assert SGD(members=3).natural_draws(10) == 3
    bad = {"learning_rate": 0.0, "momentum": 1.0, "max_norm": 0.0, "schedule": "linear", "members": 0}
    for name, value in bad.items():
        with pytest.raises(UserError, match=name):
            SGD(**{name: value})
