"""Laplace approximation: exact where the posterior is normal, consistent with its linearised network elsewhere."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import (
    BayesianModel,
    DenseDraw,
    FanInNormal,
    Gaussian,
    ModuleDraw,
    NormalPrior,
    StackedNetwork,
    Target,
    fit,
    make_method,
    mlp,
)
from dynapilco.inference.adam import BETAS, cosine_rate
from dynapilco.inference.curvature import structure as structures
from dynapilco.inference.draws import LinearisedDraw, TrunkDraw
from dynapilco.inference.likelihoods import make_likelihood
from dynapilco.inference.method import replica
from dynapilco.inference.methods.laplace import Laplace
from dynapilco.inference.priors import make_prior
from tests.inference.curvature.nets import KINDS, explicit_jacobian, problem
from tests.inference.harness import conjugate, gen, rand

CLOSE = {"atol": 1e-9, "rtol": 1e-7}


def concluded(method, model, target, params, points):
    """The state of a fit that ended at params and points."""
    state = {"params": params.clone(), "points": points.clone()}
    method.finish(state, target, gen())
    return state


def covariance_of(method, model, state):
    """Of all Bayesian weights, (n, n), for a single member."""
    plan = method.plan(model)
    own = {k.removeprefix("curvature_"): t[0] for k, t in state.items() if k.startswith("curvature_")}
    factor = plan.structure.transform(own, torch.eye(plan.layout.total, dtype=torch.float64))
    factor = plan.scatter(factor, model.network.layout)
    return factor.T @ factor


def check_conjugate(structure, subset="auto", temperature=1.0, linearised=True):
    """The exact posterior of Bayesian linear regression, 1e-6."""
    case = conjugate(temperature=temperature)
    method = Laplace(
        structure=structure, subset=subset, temperature=temperature, linearised=linearised,
        learning_rate=0.05, cold_steps=500,
    )  # fmt: skip
    state = case.fitted(method)
    torch.testing.assert_close(state["params"][0], case.mean, atol=1e-6, rtol=0)
    covariance = covariance_of(method, case.model, state)
    torch.testing.assert_close(covariance, temperature * case.covariance, atol=1e-9, rtol=1e-6)
    draw = method.draw(case.model, state, 4000, gen(3))
    x = rand(6, 4, seed=9)
    design = torch.cat([x, torch.ones(6, 1)], 1)
    exact = temperature * (design @ case.covariance @ design.T)
    found = torch.cov(draw(x)[..., 0].T)
    error = 5 * (2 / 4000) ** 0.5  # five standard errors of a variance
    torch.testing.assert_close(found.diagonal(), exact.diagonal(), rtol=error, atol=0)


@pytest.mark.parametrize("structure", ["full", "kfac", "auto"])
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_conjugate_regression(structure, temperature):
    check_conjugate(structure, temperature=temperature)


def test_conjugate_regression_by_the_last_layer_and_by_weights():
    check_conjugate("full", subset="last_layer")
    check_conjugate("full", linearised=False)


def test_the_conjugate_test_can_fail(monkeypatch):
    monkeypatch.setattr(structures, "full_ggn", lambda *a: structures_full(*a) * 1.001)
    with pytest.raises(AssertionError):
        check_conjugate("full")


structures_full = structures.full_ggn


def test_the_diagonal_of_conjugate_regression():
    """1 / diag(H): the variances given all other weights."""
    case, method = conjugate(), Laplace(structure="diagonal", cold_steps=20)
    state = case.fitted(method)
    truth = torch.diag(1 / case.precision.diagonal())
    torch.testing.assert_close(covariance_of(method, case.model, state), truth, atol=1e-12, rtol=1e-9)


def test_a_step_is_adam_on_the_potential():
    _, target, params, points = problem("mlp")
    method = Laplace()
    state = {"params": params.clone(), "points": points.clone()}
    run = fit(method, state, target, gen(), steps=1)
    assert run.steps == 1
    leaves = [params.clone().requires_grad_(True), points.clone().requires_grad_(True)]
    grads = torch.autograd.grad(target.potential(*leaves).sum() / target.rows, leaves)
    rate = cosine_rate(method.learning_rate, 0, 1)
    assert BETAS[0] < 1  # after one step the moments are (1 - beta) g, and corrected to g
    for name, before, g, factor in zip(("params", "points"), (params, points), grads, (1.0, 3.0), strict=True):
        torch.testing.assert_close(state[name], before - factor * rate * g / (g.abs() + 1e-8), atol=1e-12, rtol=0)


def check_predictive(kind, structure="full", subset="all"):
    """Functions scatter around f(x; mu) with covariance J Sigma J^T; 94-96 % within their 95 % ellipsoid."""
    model, target, params, points = problem(kind, rows=20)
    method = Laplace(structure=structure, subset=subset)
    state = concluded(method, model, target, params, points)
    draw = method.draw(model, state, 4000, gen(5))
    x = rand(1, *target.all.x.shape[1:], seed=8)
    f = draw(x)[:, 0]
    full = model.full(params, points)
    jac = model.network.divide(explicit_jacobian(model.network, full, x))[0][0]
    covariance = jac @ covariance_of(method, model, state) @ jac.T
    deviation = f - model.network.shared(full, x)[0, 0]
    distance = (deviation @ torch.linalg.inv(covariance) * deviation).sum(-1)
    quantile = -2 * math.log(0.05)  # of chi^2 with two degrees of freedom
    assert 0.94 < (distance < quantile).double().mean() < 0.96
    return draw, covariance


@pytest.mark.parametrize("structure", ["full", "kfac", "diagonal"])
def test_the_spread_of_functions(structure):
    draw, _ = check_predictive("mlp", structure)
    assert isinstance(draw, LinearisedDraw)


@pytest.mark.parametrize("kind", ["conv", "tied"])
def test_the_spread_of_functions_of_other_networks(kind):
    check_predictive(kind)


def test_the_spread_of_functions_of_the_last_layer():
    draw, covariance = check_predictive("mlp", subset="last_layer")
    assert isinstance(draw, TrunkDraw)
    wide = check_predictive("mlp")[1]
    assert (covariance.diagonal() < wide.diagonal()).all()  # the trunk is taken as known


def test_the_test_of_spread_can_fail(monkeypatch):
    transform = structures.Diagonal.transform
    monkeypatch.setattr(
        structures.Diagonal, "transform", lambda s, t, e: transform(s, t, e) * (1.4 if len(e) == 4000 else 1)
    )
    with pytest.raises(AssertionError):
        check_predictive("mlp", "diagonal")


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "attention_eval"])
@pytest.mark.parametrize("structure", ["full", "kfac", "diagonal"])
@pytest.mark.parametrize("subset", ["all", "last_layer"])
def test_any_network(kind, structure, subset):
    """A whole fit on any module; draws agree with draws of weights where the network is linear in them."""
    model, target, _, _ = problem(kind)
    method = Laplace(structure=structure, subset=subset, cold_steps=3)
    state = method.init(model, gen())
    assert not fit(method, state, target, gen(1), steps=3).diverged
    assert set(method.init(model, gen())) <= set(state)
    draw = method.draw(model, state, 3, gen(2))
    f = draw(target.all.x)
    assert f.shape == (3, 7, 2)
    assert (f[0] - f[1]).abs().max() > 1e-4
    weights = replace(method, linearised=False).draw(model, state, 3, gen(2))
    same = torch.allclose(f, weights(target.all.x), atol=1e-8)
    assert same == (subset == "last_layer")


def test_members_are_a_mixture_and_do_not_mix():
    """Two data sets with two members each: four fits of their own."""
    model, target, _, _ = problem("mlp")
    x, y = target.all.x, target.all.y
    for structure in ("full", "kfac", "diagonal"):
        method = Laplace(members=2, structure=structure)
        state = method.init(model, gen(), replicas=2)
        alone = [{k: v.clone() for k, v in replica(state, r, 2).items()} for r in range(2)]
        fit(method, state, Target(model, torch.stack([x, -x]), torch.stack([y, y + 1])), gen(), steps=20)
        for r, single in enumerate(alone):
            fit(method, single, Target(model, x * (1 - 2 * r), y + r), gen(), steps=20)
            for name, tensor in replica(state, r, 2).items():
                if name.startswith(("params", "points", "curvature_factor", "curvature_sd", "curvature_scale")):
                    torch.testing.assert_close(tensor, single[name], atol=1e-6, rtol=1e-6)
        one = replica(state, 0, 2)
        draw = method.draw(model, one, 4, gen(2))
        assert draw.centre.shape[0] == 4  # each function around its own member
        last = Laplace(members=2, structure=structure, subset="last_layer")
        begun = last.init(model, gen())
        assert isinstance(last.draw(model, begun, 4, gen()), DenseDraw)


def test_draws_do_not_alias_the_state_and_repeat():
    model, target, _, _ = problem("mlp")
    for options in ({}, {"subset": "last_layer"}, {"linearised": False}):
        method = Laplace(**options)
        state = method.init(model, gen())
        draw, x = method.draw(model, state, 3, gen(1)), target.all.x
        before = draw(x)
        torch.testing.assert_close(method.draw(model, state, 3, gen(1))(x), before, rtol=0, atol=0)
        assert not torch.equal(method.draw(model, state, 3, gen(2))(x), before)
        fit(method, state, target, gen(), steps=5)
        for tensor in state.values():
            tensor.zero_()
        assert torch.equal(draw(x), before)


def test_before_data_it_is_the_prior_around_the_initial_weights():
    model, *_ = problem("mlp", prior=NormalPrior(0.5))
    for structure in ("full", "kfac", "diagonal"):
        method = Laplace(structure=structure, temperature=0.25)
        covariance = covariance_of(method, model, method.init(model, gen()))
        torch.testing.assert_close(covariance, 0.0625 * torch.eye(len(covariance)).double(), **CLOSE)


def test_a_warm_start_goes_on_and_learns_from_grown_data():
    case, method = conjugate(rows=200), Laplace(structure="full")
    x, y = case.target.all.x, case.target.all.y
    state = method.init(case.model, gen())
    fit(method, state, Target(case.model, x[:50], y[:50]), gen(), steps=300)
    before = covariance_of(method, case.model, state)
    start = state["params"].clone()
    fit(method, state, case.target, gen(), steps=1)
    assert (state["params"] - start).abs().max() <= method.learning_rate
    after = covariance_of(method, case.model, state)
    torch.testing.assert_close(after, case.covariance, atol=1e-9, rtol=1e-6)
    assert (after.diagonal() < before.diagonal() / 2).all()


def test_minibatches_descend_and_the_curvature_sees_all_rows():
    case, method = conjugate(), Laplace(structure="full", batch_size=20, cold_steps=600)
    state = case.fitted(method)
    assert (state["params"][0] - case.mean).abs().max() < 0.3 * case.covariance.diagonal().sqrt().min()
    torch.testing.assert_close(covariance_of(method, case.model, state), case.covariance, atol=1e-9, rtol=1e-6)


def test_row_weights_repeat_rows():
    """A weight of 2 is a row that occurs twice, one of 0 a row that is not there."""
    case, method = conjugate(rows=30), Laplace(structure="full")
    x, y = case.target.all.x, case.target.all.y
    weights = torch.tensor([2.0, 0.0, 1.0]).repeat(10).double()
    keep = torch.arange(30).repeat_interleave(weights.long())
    results = []
    for target in (Target(case.model, x, y, weights), Target(case.model, x[keep], y[keep])):
        state = method.init(case.model, gen())
        fit(method, state, target, gen(), steps=50)
        results.append(covariance_of(method, case.model, state))
    torch.testing.assert_close(*results, **CLOSE)


def test_excluded_parameters_have_no_spread():
    model, target, _, _ = problem("mlp", exclude=["0.*"])
    method = Laplace(structure="full")
    state = method.init(model, gen())
    fit(method, state, target, gen(), steps=5)
    draw = method.draw(model, state, 3, gen(1))
    named = model.network.full.split(draw.tangents)
    assert named["0.weight"].abs().max() == 0
    assert named["2.weight"].abs().min() > 0
    torch.testing.assert_close(draw.centre, model.full(state["params"], state["points"]))


@pytest.mark.parametrize(
    ("likelihood", "prior"),
    [("categorical", "student_t"), ("bernoulli", "horseshoe"), ("poisson", "laplace"), ("student_t", "normal")],
)
def test_other_likelihoods_and_priors(likelihood, prior):
    model_likelihood = make_likelihood(likelihood)
    net = StackedNetwork(mlp(3, 2, (6,)))
    outputs = 1 if likelihood == "categorical" else 2
    model = BayesianModel(net, model_likelihood, make_prior(prior), outputs)
    x = rand(30, 3).float()
    y = {"categorical": (x[:, :1] > 0).long(), "student_t": x[:, :2]}.get(likelihood, (x[:, :2] > 0).float())
    for structure in ("full", "kfac", "diagonal"):
        method = Laplace(structure=structure)
        state = method.init(model, gen())
        assert not fit(method, state, Target(model, x, y), gen(), steps=30).diverged
        f = method.draw(model, state, 20, gen(1))(x)
        assert torch.isfinite(f).all() and f.std(0).min() > 0
        metrics = method.metrics(state)
        assert prior == "student_t" or (metrics["floored"] > 0) == (prior != "normal")
        assert metrics.get("jitter", 0.0) == 0.0


def test_the_choice_of_subset_and_structure():
    def chosen(module, **options):
        plan = Laplace(**options).plan(BayesianModel(StackedNetwork(module), Gaussian(), FanInNormal(), 2))
        return type(plan.structure).__name__, plan.layer

    assert chosen(mlp(3, 2, (50,))) == ("Full", None)
    assert chosen(mlp(6, 4, (64, 64))) == ("Full", "4")
    assert chosen(mlp(6, 2, (2000,))) == ("Kronecker", "2")
    assert chosen(mlp(6, 4, (64, 64)), subset="all") == ("Kronecker", None)
    assert chosen(mlp(3, 2, (50,)), structure="diagonal") == ("Diagonal", None)
    layer = nn.Linear(60, 60)
    assert chosen(nn.Sequential(layer, nn.Tanh(), layer)) == ("Kronecker", None)  # its head is not the last layer's own
    with pytest.raises(UserError, match="more than once"):
        chosen(nn.Sequential(layer, nn.Tanh(), layer), subset="last_layer")
    with pytest.raises(UserError, match="GB; use 'kfac'"):
        chosen(mlp(100, 2, (300,)), structure="full", subset="all")


def test_networks_that_the_plan_does_not_fit_are_found_before_training():
    class After(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.kind, self.body, self.head = kind, nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = nn.functional.linear(x, self.body.weight) if self.kind == "idle" else self.body(x)
            return self.head(h) if self.kind == "idle" else self.head(h).tanh()

    x = rand(6, 3).float()
    for kind, options, match in (
        ("after", {"subset": "last_layer"}, "'head'"),
        ("idle", {"structure": "kfac"}, "'body'"),
    ):
        model = BayesianModel(StackedNetwork(After(kind)), Gaussian(), FanInNormal(), 2)
        state = Laplace(**options).init(model, gen())
        before = state["params"].clone()
        with pytest.raises(UserError, match=match):
            fit(Laplace(**options), state, Target(model, x, x[:, :2]), gen(), steps=2)
        assert torch.equal(state["params"], before)


def test_bad_options_are_named():
    for options, match in (
        ({"structure": "ful"}, "structure"), ({"subset": "head"}, "subset"), ({"linearised": 1}, "linearised"),
        ({"learning_rate": 0.0}, "learning_rate"), ({"temperature": -1.0}, "temperature"), ({"members": 0}, "members"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=match):
            make_method("laplace", options)
    assert Laplace().natural_draws(160) == 50
    assert not Laplace.has_loss
    case = conjugate()
    with pytest.raises(UserError, match="at least 1"):
        Laplace().draw(case.model, Laplace().init(case.model, gen()), 0, gen())


def test_uncertainty_grows_away_from_the_data():
    """Default options, a curve with a gap: 95 % of the truth is covered, and the gap is the widest place."""
    x = torch.cat([torch.linspace(-2, -0.8, 40), torch.linspace(0.8, 2, 40)]).unsqueeze(1)
    y = torch.sin(2 * x) + 0.1 * rand(80, 1, seed=3).float()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = StackedNetwork(mlp(1, 1, (30,)))
    model, method = BayesianModel(net, Gaussian(), FanInNormal(), 1), Laplace(cold_steps=800)
    state = method.init(model, gen())
    fit(method, state, Target(model, x, y), gen(), steps=800)
    draw = method.draw(model, state, 400, gen(1))
    grid = torch.linspace(-2, 2, 41).unsqueeze(1)
    f = draw(grid)[..., 0]
    sd = f.std(0)
    assert sd[20] > 3 * sd[5]
    inside = (grid[:, 0].abs() > 0.8) & (grid[:, 0].abs() < 2)
    off = (f.mean(0) - torch.sin(2 * grid[:, 0])).abs() / sd
    assert (off[inside] < 3).all()
    assert draw.scale.mean().item() == pytest.approx(0.1, rel=0.25)


def test_engines_of_the_draws():
    model, _, params, _ = problem("conv")
    method = Laplace(linearised=False)
    assert isinstance(method.draw(model, method.init(model, gen()), 2, gen()), ModuleDraw)
    assert params.shape[0] == 1
    dense, *_ = problem("mlp")
    trunk = Laplace(subset="last_layer")
    stack = trunk.draw(dense, trunk.init(dense, gen()), 5, gen()).dense(3)
    assert stack.groups == 5
