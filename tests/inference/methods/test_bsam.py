"""bSAM: its update, and how far its spread is from the mean-field optimum."""

import pytest
import torch

from dynapilco.inference.adam import cosine_rate
from dynapilco.inference.methods.bsam import BSAM
from tests.inference.harness import conjugate, gen
from tests.inference.methods import natural_checks as checks
from tests.inference.methods.natural_checks import fixed_initial_weights  # noqa: F401


class NoRows(BSAM):
    """N forgotten in the spread."""

    def begin(self, state, target, generator):
        super().begin(state, target, generator)
        state["effective"] = torch.ones_like(state["effective"])


class Descent(BSAM):
    """The adversarial step goes downhill."""

    def step(self, state, batch, clock, generator):
        object.__setattr__(self, "rho", -abs(self.rho))
        return super().step(state, batch, clock, generator)


def check_one_step(method):
    """Against the equations of the paper, in float64 to 1e-12."""
    problem = conjugate(temperature=0.5, prior_std=0.5)
    state = checks.warm_state(method, problem)
    omega, s, m = (state[k][0].clone() for k in ("params", "curvature", "momentum"))
    eps = torch.empty(1, 1, 5, dtype=torch.float64).normal_(generator=gen(9))[0, 0]
    method.step(state, problem.target.batch(), checks.CLOCK, gen(9))
    n, delta, b1, b2 = 200, 1 / (200 * 0.5**2), 0.9, 0.95
    g, each = checks.exact_gradient(problem, omega + eps / torch.sqrt(n * s / 0.5))
    g_e, _ = checks.exact_gradient(problem, omega + 0.05 * g / s)
    m = b1 * m + (1 - b1) * (g_e + delta * omega)
    alpha = cosine_rate(0.2, checks.CLOCK.done, checks.CLOCK.steps)
    omega = omega - alpha * m / s
    size = each.square().mean(0).sqrt() if method.per_example else g.abs()
    s = b2 * s + (1 - b2) * (s.sqrt() * size + delta + 0.3)
    torch.testing.assert_close(state["curvature"][0], s, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state["momentum"][0], m, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state["params"][0], omega, atol=1e-12, rtol=1e-12)


EXACT = {"beta2": 0.95, "warm_up": 0.0, "clip_radius": 1e6, "rho": 0.05, "damping": 0.3}


@pytest.mark.parametrize("per_example", [True, False])
def test_one_step_equals_the_paper(per_example):
    check_one_step(BSAM(per_example=per_example, **EXACT))


@pytest.mark.parametrize("broken", [NoRows, Descent])
def test_a_broken_step_is_noticed(broken):
    with pytest.raises(AssertionError):
        check_one_step(broken(**EXACT))


@pytest.mark.parametrize(
    ("options", "factor"),
    [({}, 1.05), ({"per_example": False, "batch_size": 20}, 3.08), ({"per_example": False}, 3.49)],
)
def test_the_documented_bias(options, factor):
    """Measured sd / mean-field sd of N = 200 rows: what the module's docstring says."""
    ratio, error = checks.field_error(BSAM(members=8, **options), conjugate(), 400)
    assert ratio.square().mean().sqrt().item() == pytest.approx(factor, rel=0.1)
    assert error < 0.2


def test_a_wrong_spread_is_noticed():
    ratio, _ = checks.field_error(NoRows(cold_steps=300), conjugate())
    assert ratio.square().mean().sqrt().item() != pytest.approx(1.05, rel=0.1)


def test_temperature():
    checks.check_temperature(BSAM(members=4), 300)


def test_what_every_natural_method_does(monkeypatch):
    checks.check_any_module(BSAM())
    checks.check_grown_data(BSAM(members=2))
    checks.check_noise_and_spread(BSAM())
    checks.check_options(BSAM, {"rho": -1.0, "damping": -0.1, "s0": 0.0, "clip_radius": 0.0})
    checks.check_members(BSAM(samples=2), monkeypatch)
