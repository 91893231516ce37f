"""HMC as a method: the exact posterior of linear regression, calibration on networks, and what it reports."""

from dataclasses import replace

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference import (
    BayesianModel,
    Clock,
    FanInNormal,
    Gaussian,
    NormalPrior,
    StackedNetwork,
    Target,
    fit,
    mlp,
)
from dynapilco.inference.chains import chain_functions, curvature, hamiltonian
from dynapilco.inference.diagnostics import rhat
from dynapilco.inference.methods.hmc import HMC
from tests.inference.chains import common
from tests.inference.harness import conjugate, gen, rand

SMALL = HMC(members=3, keep=5, leapfrogs=5)
MANY = HMC(members=128, keep=10, search=0.0, leapfrogs=6)


def check_conjugate(method, temperature=1.0, steps=120):
    """Means and second moments within 5 Monte Carlo standard errors, taken over independent chains."""
    problem = conjugate(rows=30, temperature=temperature)
    state = problem.fitted(method, steps)
    covariance = problem.covariance * temperature
    centred = state["samples"] - problem.mean
    for values, wanted in ((centred, torch.zeros(5)), (centred.square(), covariance.diagonal())):
        means = values.mean(1)
        error = means.std(0) / means.shape[0] ** 0.5
        assert ((means.mean(0) - wanted).abs() < 5 * error).all()
        assert (error < 0.1 * covariance.diagonal() ** (0.5 if wanted.sum() == 0 else 1)).all()  # it can tell
    assert method.metrics(state)["divergences"] == 0


def test_conjugate_linear_regression():
    check_conjugate(MANY)


def test_conjugate_without_adaptation_of_the_mass():
    check_conjugate(replace(MANY, adapt_mass=False))


def test_temperature():
    check_conjugate(replace(MANY, temperature=4.0), temperature=4.0)


@pytest.mark.parametrize("mutant", ["momenta", "extra kick", "no rejection"])
def test_mistakes_are_noticed(mutant, monkeypatch):
    method, steps = MANY, 120
    if mutant == "momenta":
        normal = curvature.normal_like
        monkeypatch.setattr(hamiltonian, "normal_like", lambda p, g: 2**0.5 * normal(p, g))
    elif mutant == "extra kick":
        leapfrog = hamiltonian.leapfrog

        def longer(potential, place, momentum, step, inverse_mass, length):
            end, last = leapfrog(potential, place, momentum, step, inverse_mass, length)
            return end, last - 0.5 * step * end.gradient

        monkeypatch.setattr(hamiltonian, "leapfrog", longer)
    else:  # a coarse integrator that accepts everything
        method = replace(MANY, step_size=0.13)
        monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.zeros(*a[0], dtype=k["dtype"]))
    with pytest.raises(AssertionError):
        check_conjugate(method, steps=steps)


def test_one_proposal_is_the_formula_written_out():
    problem = conjugate(rows=20)
    method = replace(SMALL, search=0.0, step_size=0.02, jitter=0.0, leapfrogs=3)
    state = method.init(problem.model, gen())
    method.begin(state, problem.target, gen())
    q = state["params"].clone()
    generator = gen(8)
    method.step(state, problem.target.batch(), Clock(0, 10), generator)
    x, y = problem.target.all.x, problem.target.all.y[:, 0]
    design = torch.cat([x, torch.ones(20, 1)], 1).double()

    def energy(theta, p):
        return 2 * (theta @ design.T - y).square().sum(-1) + 0.5 * theta.square().sum(-1) + 0.5 * p.square().sum(-1)

    def gradient(theta):
        return 4 * (theta @ design.T - y) @ design + theta

    twin = gen(8)
    torch.randint(3, 4, (), generator=twin)  # the length
    p = torch.randn(3, 5, generator=twin, dtype=torch.float64)
    a, b = q, p
    for _ in range(3):
        b = b - 0.01 * gradient(a)
        a = a + 0.02 * b
        b = b - 0.01 * gradient(a)
    accept = torch.rand(3, generator=twin, dtype=torch.float64) < (energy(q, p) - energy(a, b)).exp()
    torch.testing.assert_close(state["params"], torch.where(accept[:, None], a, q), atol=1e-12, rtol=1e-12)


def test_step_sizes_are_frozen_after_burn_in():
    problem, sizes = conjugate(rows=30), []
    method = replace(SMALL, search=0.0)
    state = method.init(problem.model, gen())
    method.begin(state, problem.target, gen())
    generator = gen(1)
    for t in range(60):
        method.step(state, problem.target.batch(), Clock(t, 60), generator)
        sizes.append((state["log_step_mean"].clone(), state["inverse_mass"].clone()))
    burn = method.plan(state, 60).burn
    assert all(torch.equal(a, b) for late in sizes[burn:] for a, b in zip(sizes[burn - 1], late, strict=True))
    assert not torch.equal(sizes[0][0], sizes[burn - 1][0])
    assert int(state["proposals"]) == 60 - burn


def test_metrics():
    problem = conjugate()
    state = SMALL.init(problem.model, gen())
    assert SMALL.metrics(state) == {}
    fit(SMALL, state, problem.target, gen(), steps=80)
    found = SMALL.metrics(state)
    assert set(found) == {"samples", "acceptance", "divergences", "step_size"}
    assert 0.5 < found["acceptance"] <= 1 and found["samples"] == 5 and found["step_size"] > 0
    wild = replace(SMALL, step_size=10.0, search=0.0)
    state = wild.init(problem.model, gen())
    fit(wild, state, problem.target, gen(), steps=20)
    assert wild.metrics(state)["divergences"] == 3 * 10 and wild.metrics(state)["acceptance"] == 0
    assert torch.isfinite(state["params"]).all()


def test_minibatches_are_refused():
    with pytest.raises(UserError, match="batch_size=10"):
        HMC(batch_size=10)


@pytest.mark.parametrize("check", [
    common.check_fits_any_module, common.check_excluded_weights_move_in_the_search_alone, common.check_warm_start,
    common.check_reproducible_and_resumable, common.check_draws, common.check_other_models,
])  # fmt: skip
def test_what_all_chains_do(check):
    check(replace(SMALL, search=0.6, warm_search=0.3))


@pytest.mark.parametrize("own_data", [False, True])
def test_chains_are_separate(own_data, monkeypatch):
    """Uniform numbers of the accept step are shared too; path lengths are common to all chains by design."""
    uniform = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda size, **k: uniform[:1] * 0 + 0.5 if size[0] == 1 else uniform * 0 + 0.5)
    monkeypatch.setattr(torch, "randint", lambda low, *a, **k: torch.tensor(low))
    method = replace(SMALL, members=3)
    common.check_members_are_separate(method, monkeypatch, [hamiltonian, curvature], own_data)


def test_bad_options_are_named():
    common.check_bad_options(HMC, [
        ({"leapfrogs": 0}, "leapfrogs"), ({"jitter": 1.0}, "jitter"), ({"step_size": -1.0}, "step_size"),
        ({"target_acceptance": 1.0}, "target_acceptance"), ({"target_acceptance": 0.0}, "target_acceptance"),
    ])  # fmt: skip


@pytest.mark.slow
def test_near_deterministic_dynamics():
    """A stiff posterior, noise 0.01 of the target scale: hardly a divergence, honest intervals, the true noise."""

    def data(n, seed):
        x = 2 * torch.rand(n, 2, generator=gen(seed)) - 1
        y = torch.stack([torch.sin(3 * x[:, 0]) + x[:, 1], x[:, 0] * x[:, 1] + 0.5 * torch.cos(2 * x[:, 0])], 1)
        return x / 0.58, y + 0.01 * torch.randn(n, 2, generator=gen(seed + 1))

    model = BayesianModel(StackedNetwork(mlp(2, 2, (32, 32))), Gaussian(), FanInNormal(), 2)
    method, (x, y), (xt, yt) = HMC(), data(200, 1), data(400, 7)
    state = method.init(model, gen())
    fit(method, state, Target(model, x, y), gen(), steps=method.cold_steps)
    draw = method.draw(model, state, 50, gen())
    p = draw.predictive(xt)
    mean, sd = p.mean.mean(0), (p.mean.var(0) + p.stddev.square().mean(0)).sqrt()
    assert method.metrics(state)["divergences"] <= 2
    assert 0.9 < ((yt - mean).abs() < 1.96 * sd).float().mean() < 0.995
    assert (yt - mean).square().mean().sqrt() < 0.015
    assert 0.008 < draw.scale.mean() < 0.014
    # Chains of this length do not mix over the modes of a network; they agree to that order of magnitude.
    assert rhat(chain_functions(model, state, xt[:50])).median() < 2


@pytest.mark.slow
def test_simulation_based_calibration_of_network_outputs():
    """Ranks of the true function among posterior samples are uniform (Talts et al. 2018), chi-square p > 1e-3.

    200 data sets drawn from the model itself, one chain each, 19 nearly independent samples: 20 equally likely ranks.
    """
    sets, rows, kept = 200, 8, 19
    net = mlp(1, 1, (5,)).double()
    model = BayesianModel(StackedNetwork(net), Gaussian(fixed=0.3), NormalPrior(1.0), 1)
    x, probe = rand(rows, 1, seed=1), torch.tensor([[-1.5], [0.3], [2.0]], dtype=torch.float64)
    truth = rand(sets, model.network.layout.total, seed=2)
    y = model.network.shared(truth, x) + 0.3 * rand(sets, rows, 1, seed=3)
    method = HMC(members=1, keep=kept, search=0.0, burn_in=0.25, leapfrogs=25, jitter=0.9)
    state = method.init(model, gen(), replicas=sets)
    fit(method, state, Target(model, x.expand(sets, rows, 1), y), gen(1), steps=800)
    flat = state["samples"].flatten(0, 1)
    values = model.network.shared(flat, probe).reshape(sets, kept, 3)
    ranks = (values < model.network.shared(truth, probe).reshape(sets, 1, 3)).sum(1)
    for column in ranks.T:
        counts = torch.bincount(column, minlength=20).double()
        statistic = float(((counts - sets / 20) ** 2 / (sets / 20)).sum())
        assert statistic < 43.8  # the 0.999 quantile of chi-square with 19 degrees of freedom
