"""Langevin dynamics: the discretised stationary distribution, the update, its schedules and its units."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from dynapilco.inference import Clock, Target, fit
from dynapilco.inference.chains import curvature, make_potential
from dynapilco.inference.chains.schedule import Schedule
from dynapilco.inference.methods import sgld
from dynapilco.inference.methods.sgld import SGLD
from tests.inference.chains import common
from tests.inference.harness import conjugate, gen, rand

SMALL = SGLD(members=3, keep=5)


def stationary(precision, eta):
    """Covariance (A - eta A^2 / 2)^-1 of theta <- theta - eta A (theta - mean) + sqrt(2 eta) e."""
    return torch.linalg.inv(precision - eta / 2 * precision @ precision)


def check_stationary(method, temperature=1.0):
    """Trace of the covariance within 2 %, entries within 5 % of the sds: 256 chains of 40 samples each.

    With eta half the limit of stability and eigenvalues within a factor 2, a direction keeps at most half of its error
    in a step. Samples are 5 steps apart, hence 10,000 independent ones: 1.4 % for a variance, 0.6 % for the trace.
    """
    problem = conjugate(sigma=0.5, temperature=temperature)
    largest = float(torch.linalg.eigvalsh(problem.precision / temperature)[-1])
    method = replace(
        method, members=256, keep=40, search=0.0, burn_in=0.2, step_size=0.5 * 2 / largest, step_units="absolute"
    )
    state = problem.fitted(method, 250)
    exact = stationary(problem.precision / temperature, method.step_size)
    samples = state["samples"].flatten(0, 1)
    found = torch.cov(samples.T)
    assert abs(float(found.trace() / exact.trace()) - 1) < 0.02
    sd = exact.diagonal().sqrt()
    assert ((found - exact).abs() < 0.05 * sd.outer(sd)).all()
    assert ((samples.mean(0) - problem.mean).abs() < 5 * sd / 10000**0.5).all()
    posterior = torch.linalg.inv(problem.precision / temperature)
    assert float(found.trace() / posterior.trace()) > 1.2  # the test tells the discretised from the exact one


def test_the_discretised_stationary_distribution():
    check_stationary(SGLD())


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.25, 4.0])
def test_temperature_scales_the_stationary_distribution(temperature):
    check_stationary(SGLD(temperature=temperature), temperature=temperature)


@pytest.mark.parametrize("factor", [2**-0.5, pytest.param(0.95, marks=pytest.mark.slow)])
def test_noise_of_a_wrong_scale_is_noticed(factor, monkeypatch):
    monkeypatch.setattr(sgld, "normal_like", lambda position, g: factor * curvature.normal_like(position, g))
    with pytest.raises(AssertionError):
        check_stationary(SGLD())


def first_moves(method, problem, moves, index=None):
    """State after each move of a chain without search, with the batch it saw."""
    state = method.init(problem.model, gen())
    method.begin(state, problem.target, gen())
    batch, generator = problem.target.batch(index), gen(8)
    yield {name: t.clone() for name, t in state.items()}
    for t in range(moves):
        method.step(state, batch, Clock(t, moves), generator)
        yield {name: t.clone() for name, t in state.items()}


def gradient_of(problem, theta, index):
    """Of U on the rows ``index``, written out."""
    x, y = problem.target.all.x[index], problem.target.all.y[index]
    design = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    return (theta @ design.T - y[:, 0]) @ design / 0.25 * problem.target.rows / len(index) + theta


@pytest.mark.parametrize("preconditioned", [False, True])
def test_one_step_is_the_formula_written_out(preconditioned):
    problem, index, eta = conjugate(), torch.arange(17), 1e-4
    method = SGLD(
        members=3, search=0.0, burn_in=0.5, step_size=eta, step_units="absolute", preconditioned=preconditioned,
        alpha=0.9, kappa=0.01, schedule="polynomial",
    )  # fmt: skip
    states = list(first_moves(method, problem, 8, index))
    for t, (old, new) in enumerate(pairwise(states[1:]), start=1):
        g = gradient_of(problem, old["params"], index)
        rate = eta * (1 + t / 0.8) ** -0.55
        v = old["second_moment"]
        metric = 1 / (0.01 + v.sqrt()) if preconditioned else torch.ones_like(g)
        noise = (new["params"] - old["params"] + rate * metric * g) / (2 * rate * metric).sqrt()
        known = noise_of_call(method, problem, t)
        torch.testing.assert_close(noise, known, atol=1e-9, rtol=0)
        if preconditioned:
            wanted = 0.9 * v + 0.1 * (g / 200) ** 2 if t < 4 else v  # frozen after burn-in
            torch.testing.assert_close(new["second_moment"], wanted, atol=1e-12, rtol=0)


def noise_of_call(method, problem, number):
    """The normal numbers of move ``number``, from a generator that went the same way."""
    generator = gen(8)
    shape = (3, 5)
    skip = 11 if method.preconditioned else 0  # power iteration's start and the probes
    for _ in range(skip + number):
        torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_minibatches_are_unbiased():
    """The mean drift over all minibatches of a partition is the drift of the full batch."""
    problem = conjugate()
    method = SGLD(members=3, search=0.0, step_size=1e-4, step_units="absolute")
    start, full = list(first_moves(method, problem, 1))
    drifts = []
    for part in torch.arange(200).split(20):
        after = list(first_moves(method, problem, 1, part))[1]
        drifts.append(after["params"] - start["params"])
    torch.testing.assert_close(torch.stack(drifts).mean(0), full["params"] - start["params"], atol=1e-10, rtol=0)


def test_relative_steps_are_shares_of_the_limit_of_stability():
    problem = conjugate()
    largest = torch.linalg.eigvalsh(problem.precision)[-1]
    state = list(first_moves(SGLD(members=3, search=0.0), problem, 1))[1]
    torch.testing.assert_close(state["limit"], (2 / largest).expand(3, 1), rtol=0.1, atol=0)


def test_preconditioned_units_and_stationary_distribution():
    """V frozen: precision G^1/2 A G^1/2 in the coordinates G^-1/2 theta, whose largest eigenvalue is the unit."""
    problem = conjugate(sigma=0.3)
    method = SGLD(members=256, keep=20, search=0.0, burn_in=0.3, preconditioned=True, step_size=0.4)
    state = problem.fitted(method, 300)
    metric = 1 / (method.kappa + state["second_moment"].sqrt())
    scaled = metric.sqrt().unsqueeze(-1) * problem.precision * metric.sqrt().unsqueeze(-2)
    largest = torch.linalg.eigvalsh(scaled)[:, -1:]
    ratio = state["limit"] * largest / 2  # the smallest limit met, while V went from rows of H to its diagonal
    assert ratio.min() > 0.1 and ratio.max() < 1.5
    eta = method.step_size * state["limit"].unsqueeze(-1)
    exact = (metric.sqrt().unsqueeze(-1) * stationary(scaled, eta) * metric.sqrt().unsqueeze(-2)).mean(0)
    found = torch.cov((state["samples"] - problem.mean).flatten(0, 1).T)
    assert abs(float(found.trace() / exact.trace()) - 1) < 0.03


def test_cycles_descend_first_and_sample_last():
    """Without noise in a cycle's first part: chains that start together stay together until it is over."""
    problem, moves = conjugate(), 40
    method = SGLD(
        members=2,
        search=0.0,
        schedule="cyclical",
        cycles=2,
        sampling=0.25,
        keep=4,
        step_size=5e-4,
        step_units="absolute",
    )
    state = method.init(problem.model, gen())
    state["params"][1] = state["params"][0]
    method.begin(state, problem.target, gen())
    generator, together = gen(1), []
    for t in range(moves):
        method.step(state, problem.target.batch(), Clock(t, moves), generator)
        together.append(bool(torch.equal(state["params"][0], state["params"][1])))
    assert together[:15] == [True] * 15 and together[15] is False
    assert method.schedule_of_moves() == Schedule("cyclical", cycles=2, sampling=0.25)
    assert int(state["kept"]) == 4


def test_a_step_that_is_too_large_is_reported():
    problem = conjugate()
    method = replace(SMALL, step_size=1.0, step_units="absolute", cold_steps=300)
    state = method.init(problem.model, gen())
    assert fit(method, state, problem.target, gen(), steps=300).diverged
    assert all(torch.isfinite(t).all() for t in state.values() if t.is_floating_point())


@pytest.mark.parametrize("check", [
    common.check_fits_any_module, common.check_excluded_weights_move_in_the_search_alone, common.check_warm_start,
    common.check_reproducible_and_resumable, common.check_draws, common.check_other_models,
])  # fmt: skip
@pytest.mark.parametrize("method", [SMALL, replace(SMALL, preconditioned=True, batch_size=16)], ids=["plain", "psgld"])
def test_what_all_chains_do(check, method):
    check(method)


@pytest.mark.parametrize("own_data", [False, True])
def test_chains_are_separate(own_data, monkeypatch):
    method = replace(SMALL, preconditioned=True)
    common.check_members_are_separate(method, monkeypatch, [sgld, curvature], own_data)


def test_bad_options_are_named():
    common.check_bad_options(SGLD, [
        ({"step_size": 0.0}, "step_size"), ({"step_size": 1.5}, "step_size"), ({"step_units": "log"}, "step_units"),
        ({"schedule": "linear"}, "kind"), ({"alpha": 1.0}, "alpha"), ({"kappa": 0.0}, "kappa"),
        ({"cycles": 0}, "cycles"),
    ])  # fmt: skip


def test_row_weights_and_targets_are_those_of_the_target():
    """Doubling the weight of a row is having it twice."""
    problem = conjugate(rows=20)
    x, y = problem.target.all.x, problem.target.all.y
    weights = torch.ones(20, dtype=torch.float64)
    weights[3] = 2
    twice = Target(problem.model, torch.cat([x, x[3:4]]), torch.cat([y, y[3:4]]))
    weighted = Target(problem.model, x, y, weights)
    theta = rand(2, 5, seed=9)
    results = [make_potential(t.batch(), theta[:, :0])(theta) for t in (twice, weighted)]
    torch.testing.assert_close(results[0], results[1])
