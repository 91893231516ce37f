"""SGHMC: the discretised stationary distribution by a Lyapunov solve, the updates, and adaptation of the scales."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from dynapilco.inference import Clock
from dynapilco.inference.chains import curvature
from dynapilco.inference.methods import sghmc
from dynapilco.inference.methods.sghmc import SGHMC
from tests.inference.chains import common
from tests.inference.harness import conjugate, gen

PLAIN = SGHMC(members=3, keep=5, scale_adapted=False)
ADAPTED = SGHMC(members=3, keep=5, scale_adapted=True)


def stationary(precision, metric, eta, alpha, beta):
    """Covariance of theta under the linear recursion of the update: P = F P F' + Q, solved as a linear system.

    With x = (theta, v): v' = (1 - alpha) v - eta G A theta + xi, theta' = theta + v'.
    """
    n = precision.shape[0]
    eye, zero, drift = torch.eye(n).double(), torch.zeros(n, n).double(), eta * metric.unsqueeze(-1) * precision
    kick = torch.cat([-drift, (1 - alpha) * eye], 1)
    f = torch.cat([torch.cat([eye, zero], 1) + kick, kick])
    noise = torch.diag(2 * (alpha - beta) * eta * metric)
    q = torch.cat([torch.cat([noise, noise], 1), torch.cat([noise, noise], 1)])
    system = torch.eye(4 * n * n).double() - torch.kron(f, f)
    return torch.linalg.solve(system, q.flatten()).reshape(2 * n, 2 * n)[:n, :n]


def check_stationary(method):
    """Trace of the covariance within 2 %: 256 chains of 30 samples, 12 steps apart.

    With friction 0.4 the error of a direction falls by about 0.8 in a step (momentum 0.6), by 15 between samples:
    7,700 independent samples, 1.6 % for a variance and 0.7 % for the trace of five.
    """
    problem = conjugate(sigma=0.5)
    largest = float(torch.linalg.eigvalsh(problem.precision)[-1])
    method = replace(
        method, members=256, keep=30, search=0.0, burn_in=0.25, alpha=0.4, step_size=1.2 / largest,
        step_units="absolute", scale_adapted=False,
    )  # fmt: skip
    state = problem.fitted(method, 500)
    ones = torch.ones(5, dtype=torch.float64)
    exact = stationary(problem.precision, ones, method.step_size, method.alpha, method.beta)
    samples = state["samples"].flatten(0, 1)
    found = torch.cov(samples.T)
    assert abs(float(found.trace() / exact.trace()) - 1) < 0.02
    sd = exact.diagonal().sqrt()
    assert ((found - exact).abs() < 0.06 * sd.outer(sd)).all()
    assert ((samples.mean(0) - problem.mean).abs() < 5 * sd / 7000**0.5).all()
    return exact, problem


def test_the_discretised_stationary_distribution():
    exact, problem = check_stationary(SGHMC())
    assert float(exact.trace() / problem.covariance.trace()) > 1.1  # the test tells the two apart


def test_the_discretised_covariance_tends_to_the_posterior():
    problem = conjugate()
    ones = torch.ones(5, dtype=torch.float64)
    exact = stationary(problem.precision, ones, 1e-6, 0.1, 0.0)
    torch.testing.assert_close(exact, problem.covariance, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("factor", [2**-0.5, pytest.param(0.95, marks=pytest.mark.slow)])
def test_noise_of_a_wrong_scale_is_noticed(factor, monkeypatch):
    monkeypatch.setattr(sghmc, "normal_like", lambda position, g: factor * curvature.normal_like(position, g))
    with pytest.raises(AssertionError):
        check_stationary(SGHMC())


def test_scale_adapted_stationary_distribution():
    """With V frozen: each chain's own metric and limit in the Lyapunov solve, within 5 % (32 chains of 128 solved)."""
    problem = conjugate(sigma=0.3)
    method = SGHMC(members=128, keep=20, search=0.4, learning_rate=0.05, burn_in=0.4, alpha=0.3, step_size=0.2)
    state = problem.fitted(method, 500)
    sizes, metrics = method.step_size * state["limit"][:, 0], state["second_moment"].rsqrt()
    exact = [
        stationary(problem.precision, m, float(e), 0.3, 0.0) for m, e in zip(metrics[:32], sizes[:32], strict=True)
    ]
    found = torch.cov((state["samples"] - problem.mean).flatten(0, 1).T)
    assert float(found.trace() / torch.stack(exact).mean(0).trace()) == pytest.approx(1, abs=0.05)
    # at stationarity the mean square of a gradient is the diagonal of the precision
    ratio = state["second_moment"].mean(0) / problem.precision.diagonal()
    assert ((ratio > 0.5) & (ratio < 2)).all()


def trace(method, problem, moves, index):
    state = method.init(problem.model, gen())
    method.begin(state, problem.target, gen())
    generator = gen(8)
    for t in range(moves):
        method.step(state, problem.target.batch(index), Clock(t, moves), generator)
        yield {name: tensor.clone() for name, tensor in state.items()}


def gradient_of(problem, theta, index):
    x, y = problem.target.all.x[index], problem.target.all.y[index]
    design = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    return (theta @ design.T - y[:, 0]) @ design / 0.25 * problem.target.rows / len(index) + theta


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
def test_one_step_is_the_formula_written_out(adapted, corrected):
    """The noise that explains a move is standard normal numbers of the generator, in order, to 1e-9."""
    if corrected and not adapted:
        pytest.skip("the correction belongs to the scale-adapted variant")
    problem, index, eta, alpha, beta = conjugate(), torch.arange(17), 1e-5, 0.1, 0.03
    method = replace(
        ADAPTED, search=0.0, burn_in=0.5, step_size=eta, step_units="absolute", scale_adapted=adapted,
        alpha=alpha, beta=beta, noise_correction=corrected,
    )  # fmt: skip
    states, generator = list(trace(method, problem, 8, index)), gen(8)
    for _ in range(12 if adapted else 1):  # power iteration's start, ten probes; the first move
        torch.randn(3, 5, generator=generator, dtype=torch.float64)
    for t, (old, new) in enumerate(pairwise(states), start=1):
        g = gradient_of(problem, old["params"], index)
        metric = old["second_moment"] ** -0.5 if adapted else torch.ones_like(g)
        z = torch.randn(3, 5, generator=generator, dtype=torch.float64)
        variance = 2 * (alpha - beta) * eta * metric - (eta**2 if corrected else 0)
        v = (1 - alpha) * old["velocity"] - eta * metric * g + variance**0.5 * z
        torch.testing.assert_close(new["velocity"], v, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(new["params"], old["params"] + v, atol=1e-12, rtol=1e-12)
        if adapted and t < 4:
            weight = 1 / old["window"]
            mean = old["first_moment"] + weight * (g - old["first_moment"])
            second = old["second_moment"] + weight * (g**2 - old["second_moment"])
            window = 1 + old["window"] * (1 - old["first_moment"] ** 2 / old["second_moment"])
            for name, wanted in (("first_moment", mean), ("second_moment", second), ("window", window.clamp(min=20))):
                torch.testing.assert_close(new[name], wanted, atol=1e-12, rtol=1e-12)
        elif adapted:
            assert torch.equal(new["second_moment"], old["second_moment"])  # frozen after burn-in


def test_relative_steps_are_shares_of_the_limit_of_stability():
    """Just below the limit the chain without noise contracts, just above it grows: spectral radius of the recursion."""
    problem, alpha = conjugate(), 0.2
    largest = float(torch.linalg.eigvalsh(problem.precision)[-1])
    for share, stable in ((0.99, True), (1.01, False)):
        drift = share * 2 * (2 - alpha)
        f = torch.tensor([[1 - drift, 1 - alpha], [-drift, 1 - alpha]], dtype=torch.float64)
        assert bool(torch.linalg.eigvals(f).abs().max() < 1) is stable
    state = next(trace(replace(PLAIN, search=0.0, alpha=alpha), problem, 1, torch.arange(200)))
    torch.testing.assert_close(
        state["limit"][:, 0], torch.full((3,), 2 * (2 - alpha) / largest).double(), rtol=0.1, atol=0
    )


def test_minibatch_gradients_are_unbiased():
    problem = conjugate()
    method = replace(PLAIN, search=0.0, step_size=1e-5, step_units="absolute")
    moved = [next(trace(method, problem, 1, part))["params"] for part in torch.arange(200).split(20)]
    full = next(trace(method, problem, 1, torch.arange(200)))["params"]
    torch.testing.assert_close(torch.stack(moved).mean(0), full, atol=1e-10, rtol=0)


@pytest.mark.parametrize("check", [
    common.check_fits_any_module, common.check_excluded_weights_move_in_the_search_alone, common.check_warm_start,
    common.check_reproducible_and_resumable, common.check_draws, common.check_other_models,
])  # fmt: skip
@pytest.mark.parametrize("method", [PLAIN, replace(ADAPTED, batch_size=16)], ids=["plain", "adapted"])
def test_what_all_chains_do(check, method):
    check(method)


@pytest.mark.parametrize("own_data", [False, True])
@pytest.mark.parametrize("method", [PLAIN, ADAPTED], ids=["plain", "adapted"])
def test_chains_are_separate(method, own_data, monkeypatch):
    common.check_members_are_separate(method, monkeypatch, [sghmc, curvature], own_data)


def test_bad_options_are_named():
    common.check_bad_options(SGHMC, [
        ({"step_size": 1.0}, "step_size"), ({"step_units": "log"}, "step_units"), ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.0}, "alpha"), ({"beta": 0.2}, "beta"), ({"beta": -0.1}, "beta"),
        ({"noise_correction": True, "scale_adapted": False}, "noise_correction"),
    ])  # fmt: skip
