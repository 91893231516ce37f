"""IVON: its update, its fixed point, and that its precision stays above zero."""

import math

import pytest
import torch

from dynapilco.inference import make_prior
from dynapilco.inference.adam import cosine_rate
from dynapilco.inference.methods.ivon import IVON
from dynapilco.inference.natural import Gradients
from tests.inference.harness import conjugate, gen
from tests.inference.methods import natural_checks as checks
from tests.inference.methods.natural_checks import fixed_initial_weights  # noqa: F401


class NoRows(IVON):
    """N forgotten in the spread."""

    def begin(self, state, target, generator):
        super().begin(state, target, generator)
        state["effective"] = torch.ones_like(state["effective"])


class NoPrior(IVON):
    """The pull of the prior forgotten."""

    def begin(self, state, target, generator):
        super().begin(state, target, generator)
        state["delta"] = 1e-9 * state["delta"]


def check_one_step(method, samples=2):
    """Against the equations of the paper, in float64 to 1e-12."""
    problem = conjugate(temperature=0.5, prior_std=0.5)
    state = checks.warm_state(method, problem)
    m, h, g = (state[k][0].clone() for k in ("params", "curvature", "momentum"))
    eps = torch.empty(1, samples, 5, dtype=torch.float64).normal_(generator=gen(9))[0]
    method.step(state, problem.target.batch(), checks.CLOCK, gen(9))
    n, temperature, t = 200, 0.5, checks.CLOCK.done + 1
    delta = 1 / (n * 0.5**2)
    sigma = torch.sqrt(temperature / (n * (h + delta)))
    each = torch.stack([checks.exact_gradient(problem, m + sigma * e)[0] for e in eps])
    b1, b2 = 0.9, 0.95
    hat = ((each - g if method.centred else each) * (sigma * eps) / sigma**2).mean(0)
    g = b1 * g * (1 - b1 ** (t - 1)) + (1 - b1) * each.mean(0)  # the state keeps g_bar
    new = b2 * h + (1 - b2) * hat + 0.5 * (1 - b2) ** 2 * (h - hat) ** 2 / (h + delta)
    alpha = cosine_rate(0.1, checks.CLOCK.done, checks.CLOCK.steps)
    m = m - alpha * (method.h0 + delta) * (g / (1 - b1**t) + delta * m) / (new + delta)
    torch.testing.assert_close(state["curvature"][0], new, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state["momentum"][0], g / (1 - b1**t), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state["params"][0], m, atol=1e-12, rtol=1e-12)


EXACT = {"samples": 2, "beta2": 0.95, "warm_up": 0.0, "clip_radius": 1e6, "h0": 2.0}


@pytest.mark.parametrize("centred", [True, False])
def test_one_step_equals_the_paper(centred):
    check_one_step(IVON(centred=centred, **EXACT))


@pytest.mark.parametrize("broken", [NoRows, NoPrior])
def test_a_broken_step_is_noticed(broken):
    with pytest.raises(AssertionError):
        check_one_step(broken(**EXACT))


def test_the_fixed_point_is_the_mean_field_optimum():
    checks.check_mean_field(IVON(members=16), rows=200, steps=600)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_fixed_point_does_not_depend_on_the_seed(seed):
    ratio, error = checks.field_error(IVON(members=8), conjugate(seed=10 * seed), seed=seed)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=0.1, rtol=0)
    assert error < 0.2


def test_a_wrong_fixed_point_is_noticed():
    with pytest.raises(AssertionError):
        checks.check_mean_field(NoRows(members=8, cold_steps=300), rows=200)


def test_minibatches_have_the_same_fixed_point():
    checks.check_mean_field(IVON(members=16, batch_size=50), rows=200, steps=1200)


def test_temperature():
    checks.check_temperature(IVON(members=16))


@pytest.mark.parametrize("hat", [-1e8, -1e3, -1.0, 0.0, 1e8])
def test_the_precision_never_falls_below_half(hat, monkeypatch):
    """h + delta >= (h + delta) / 2 of before, whatever the estimate: no clipping is needed."""
    problem = conjugate()
    method = IVON(beta2=0.5, warm_up=0.0)
    state = checks.warm_state(method, problem)
    before = state["curvature"] + state["delta"]
    sigma = method.std(state)
    monkeypatch.setattr(IVON, "noise", lambda self, s, g: torch.ones_like(s["params"]).unsqueeze(1))

    def gradients(batch, theta, points, learn):
        return fake_gradients(theta, hat * sigma, points)

    monkeypatch.setattr("dynapilco.inference.methods.ivon.gradients_at", gradients)
    method.step(state, problem.target.batch(), checks.CLOCK, gen())
    after = state["curvature"] + state["delta"]
    assert (after >= 0.5 * before * (1 - 1e-12)).all()
    assert after.isfinite().all()


def fake_gradients(theta, gradient, points):
    return Gradients(torch.zeros(1), gradient.view(theta.shape), torch.zeros_like(points))


@pytest.mark.parametrize("prior", ["laplace", "student_t"])
def test_priors_that_are_not_gaussian(prior):
    """They enter by their gradient; with many data the posterior is near that under a normal prior."""
    checks.check_any_module(IVON(), make_prior(prior))
    problem, method = conjugate(rows=400), IVON(members=16)
    normal = method.std(problem.fitted(method, 400))
    object.__setattr__(problem.model, "prior", make_prior(prior))
    other = problem.fitted(method, 400)
    torch.testing.assert_close(method.std(other).mean(), normal.mean(), rtol=0.1, atol=0)
    assert (other["params"].mean(0) - problem.mean).abs().max() < 0.1


def test_noise_learned_under_full_perturbations_swallows_the_data():
    """Why a fit begins cool: without that, the check of the curve fails."""
    with pytest.raises(AssertionError):
        checks.check_noise_and_spread(IVON(warm_up=0.0))


def test_what_every_natural_method_does(monkeypatch):
    checks.check_any_module(IVON())
    checks.check_grown_data(IVON(members=4))
    checks.check_noise_and_spread(IVON())
    checks.check_options(IVON, {"h0": 0.0, "clip_radius": math.inf})
    checks.check_members(IVON(samples=2), monkeypatch)
