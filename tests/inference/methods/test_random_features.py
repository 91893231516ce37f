"""Random features: exact given the hidden layers, and near the Gaussian process that the wide network is."""

import math

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import (
    BayesianModel,
    BayesianModule,
    FanInNormal,
    Gaussian,
    NormalPrior,
    StackedNetwork,
    Target,
    fit,
    mlp,
)
from dynapilco.inference.evidence import cholesky, group_of, members, negative_log_evidence, wide_kernel
from dynapilco.inference.methods.random_features import RandomFeatures
from tests.inference.harness import conjugate, gen, rand


def problem(inputs=5, hidden=(200,), outputs=1, rows=50, activation="tanh", prior=None, noise=0.05, seed=0):
    """Model and data of which only the first two inputs matter."""
    x = rand(rows, inputs, seed=seed)
    columns = [torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1], x[:, 0] * x[:, 1]][:outputs]
    y = torch.stack(columns, -1) + noise * rand(rows, outputs, seed=seed + 1)
    network = StackedNetwork(mlp(inputs, outputs, hidden, activation).double())
    return BayesianModel(network, Gaussian(), prior or FanInNormal(1.0, 2.0, 0.1), outputs), x, y


def fitted(method, model, x, y, steps=None, **kwargs):
    state = method.init(model, gen(3))
    report = fit(method, state, Target(model, x, y, **kwargs), gen(4), steps=steps or method.cold_steps)
    assert not report.diverged
    return state


def check_moments(case, method, temperature=1.0):
    state = case.fitted(method, steps=1)
    params, exact = state["params"], temperature * case.covariance
    error = 5 * (exact.diagonal() / len(params)).sqrt()
    assert ((params.mean(0) - case.mean).abs() < error).all()
    scale = exact.diagonal().rsqrt()
    found = torch.cov(params.T) * torch.outer(scale, scale)
    torch.testing.assert_close(found, exact * torch.outer(scale, scale), atol=5 * (2 / len(params)) ** 0.5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_conjugate_regression_is_exact(temperature):
    """Mean and covariance of 4,000 members within 5 standard errors of the posterior's."""
    case = conjugate(temperature=temperature)
    check_moments(case, RandomFeatures(members=4000, evidence=False, temperature=temperature), temperature)


def test_a_broken_factor_is_noticed(monkeypatch):
    solve = members.solve
    monkeypatch.setattr(members, "solve", lambda g, m, s, noise, a: solve(g, m, s, noise * 2, a))
    with pytest.raises(AssertionError):
        check_moments(conjugate(), RandomFeatures(members=4000, evidence=False))


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("hidden", [(600,), (200, 200)])
def test_the_wide_kernel_is_the_covariance_of_networks_from_the_prior(activation, hidden):
    network, prior = StackedNetwork(mlp(3, 1, hidden, activation).double()), FanInNormal(1.2, 1.5, 0.3)
    x = rand(6, 3, seed=5)
    f = network.shared(prior.sample(network.layout, 3000, gen()).double(), x)[..., 0]
    kernel = wide_kernel(network, prior)
    assert kernel is not None
    expected = kernel(x) + 0.3**2
    # erf stands in for tanh (2 %), widths are finite, and a variance of 3,000 samples has a standard error of 2.6 %
    torch.testing.assert_close(f.T @ f / len(f), expected, atol=0.1 * float(expected.diagonal().mean()), rtol=0.05)


def test_no_closed_form():
    for net, prior in (
        (mlp(2, 1, (8,), "silu"), NormalPrior()),
        (nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 1)), NormalPrior()),
    ):
        assert wide_kernel(StackedNetwork(net), prior) is None


def test_the_evidence_and_its_gradient():
    x, y = rand(12, 2), rand(12, 3, seed=1)
    kernel = torch.exp(-(x.unsqueeze(0) - x.unsqueeze(1)).square().sum(-1)).expand(3, 12, 12)
    noise, weights = torch.tensor([0.3, 0.5, 1.0]).double(), rand(12, seed=2).exp()
    found = negative_log_evidence(kernel, y, noise, weights)
    for o in range(3):
        covariance = kernel[o] + torch.diag(noise[o] ** 2 / weights)
        exact = torch.distributions.MultivariateNormal(torch.zeros(12).double(), covariance).log_prob(y[:, o])
        torch.testing.assert_close(found[o], -exact)

    def value(scale, sigma):
        symmetric = kernel * scale[:, None, None]
        return negative_log_evidence(symmetric, y, sigma, None)

    leaves = torch.ones(3).double().requires_grad_(True), noise.clone().requires_grad_(True)
    torch.autograd.gradcheck(value, leaves)


def test_relevances_find_the_inputs_that_matter():
    model, x, y = problem(outputs=2)
    state = fitted(RandomFeatures(), model, x, y)
    relevance = state["log_relevance"][0].exp()
    assert relevance.shape == (2, 5)
    assert relevance[:, 2:].max() < 0.5 * relevance[:, 0].min()
    plain = fitted(RandomFeatures(evidence=False), model, x, y)
    assert (plain["log_relevance"] == 0).all()
    test_x, truth = rand(400, 5, seed=9), problem(outputs=2, rows=400, seed=9, noise=0.0)[2]
    errors = [
        (RandomFeatures().draw(model, s, 40, gen())(test_x).mean(0) - truth).square().mean().sqrt()
        for s in (state, plain)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_members_are_samples_of_the_gaussian_process_of_the_wide_network():
    """Mean and spread of 100 members of 500 units against the process with the same hyper-parameters."""
    model, x, y = problem(hidden=(500,), inputs=2, rows=30)
    method = RandomFeatures(members=100)
    state = fitted(method, model, x, y)
    new = rand(20, 2, seed=8)
    relevance, noise = state["log_relevance"][0, 0].exp(), model.likelihood.constrain(state["raw_noise"])[0]
    kernel = wide_kernel(model.network, model.prior)
    assert kernel is not None
    both = kernel(torch.cat([x, new]) * relevance) * (2 * state["log_scale"][0, 0, 0]).exp() + 0.1**2
    gain = torch.linalg.solve(both[:30, :30] + noise**2 * torch.eye(30), both[:30, 30:]).T
    mean, covariance = gain @ y[:, 0], both[30:, 30:] - gain @ both[:30, 30:]
    f = method.draw(model, state, 100, gen())(new)[..., 0]
    std = covariance.diagonal().sqrt()
    assert ((f.mean(0) - mean).abs() < 0.5 * std + 0.03).all()  # tanh is not quite erf, and widths are finite
    torch.testing.assert_close(f.std(0), std, rtol=0.35, atol=0.03)


def test_weights_count_rows():
    model, x, y = problem(rows=30)
    method = RandomFeatures(members=300, evidence=False)
    once = fitted(method, model, x, y, steps=1, weights=torch.cat([torch.ones(20), torch.zeros(10)]).double())
    without = fitted(method, model, x[:20], y[:20], steps=1)
    new = rand(15, 5, seed=8)
    one, two = (method.draw(model, s, 300, gen())(new)[..., 0] for s in (once, without))
    assert ((one.mean(0) - two.mean(0)).abs() < 5 * (one.std(0) ** 2 / 300 + two.std(0) ** 2 / 300).sqrt()).all()


def test_data_sets_at_once_are_data_sets_one_by_one():
    model, x, y = problem(rows=30)
    other = problem(rows=30, seed=7)
    method = RandomFeatures(members=3, cold_steps=30)
    state = method.init(model, gen(), replicas=2)
    fit(method, state, Target(model, torch.stack([x, other[1]]), torch.stack([y, other[2]])), gen(), steps=30)
    for r, (own_x, own_y) in enumerate([(x, y), other[1:]]):
        single = fitted(method, model, own_x, own_y)
        for name in ("log_relevance", "log_scale", "raw_noise"):
            torch.testing.assert_close(state[name][r], single[name][0])
    assert state["params"].shape[0] == 6


def test_more_rows_than_the_evidence_looks_at():
    model, x, y = problem(rows=1300, noise=0.1)
    state = fitted(RandomFeatures(evidence_rows=64, members=5), model, x, y)
    sigma = float(model.likelihood.constrain(state["raw_noise"])[0, 0])
    assert 0.05 < sigma < 0.2
    residual = RandomFeatures().draw(model, state, 5, gen())(x).mean(0) - y
    assert residual.std() < 0.13


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(5, 60), nn.SiLU(), nn.Linear(60, 150), nn.SiLU(), nn.Linear(150, 1)),
        nn.Sequential(nn.Linear(5, 80), nn.Tanh(), nn.LayerNorm(80), nn.Linear(80, 1, bias=False)),
        nn.Sequential(nn.Linear(5, 100), nn.ReLU(), nn.Linear(100, 60), nn.ReLU(), nn.Linear(60, 1)),
    ],
    ids=["silu", "layer norm, no bias", "two relu layers"],
)
def test_other_networks(net):
    _, x, y = problem(rows=120)
    bnn = BayesianModule(net.double(), RandomFeatures(members=10), prior="fan_in_normal")
    before = bnn.predict(x).mean
    report = bnn.fit(x, y)
    assert not report.diverged
    assert (bnn.predict(x).mean - y).std() < 0.25 < (before - y).std()


def test_an_excluded_bias_is_an_offset():
    net = mlp(2, 1, (50,)).double()
    nn.init.constant_(net[-1].bias, 3.0)
    x = rand(80, 2)
    y = 3.0 + x[:, :1]
    bnn = BayesianModule(net, RandomFeatures(members=10), prior="fan_in_normal", exclude=["2.bias"])
    bnn.fit(x, y)
    assert (bnn.predict(x).mean - y).abs().max() < 0.3


def test_warm_start_keeps_the_hidden_layers():
    model, x, y = problem(rows=60)
    method = RandomFeatures(members=4)
    state = fitted(method, model, x[:40], y[:40])
    anchors = state["anchors"].clone()
    fit(method, state, Target(model, x, y), gen(), steps=method.warm_steps)
    assert torch.equal(anchors, state["anchors"])
    assert (method.draw(model, state, 4, gen())(x).mean(0) - y).std() < 0.15


def test_a_factor_that_rounding_spoils_is_mended_and_what_cannot_be_is_nan():
    x = rand(40, 1)
    smooth = torch.exp(-0.001 * (x - x.T).square())  # rank 3 or so in double precision
    bad = torch.full((40, 40), math.nan).double()
    assert torch.linalg.cholesky_ex(smooth)[1] > 0
    good, spoilt, hopeless = cholesky.factor(torch.stack([torch.eye(40).double(), smooth, bad]))
    torch.testing.assert_close(good, torch.eye(40).double())
    torch.testing.assert_close(spoilt @ spoilt.T, smooth, atol=1e-7, rtol=0)
    assert hopeless.isnan().all()


def test_a_fit_that_diverges_goes_back():
    model, x, y = problem()
    method = RandomFeatures(members=2, learning_rate=1e30)
    state = method.init(model, gen(3))
    report = fit(method, state, Target(model, x, y), gen(4), steps=60)
    assert report.diverged
    assert all(torch.isfinite(t).all() for t in state.values())


def test_refusals():
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    for options, message in (
        ({"likelihood": "student_t"}, "needs Gaussian or Bernoulli likelihoods"),
        ({"prior": "laplace"}, "needs a normal prior"),
        ({"exclude": ["2.weight"]}, "weights of the last layer are excluded"),
    ):
        with pytest.raises(UserError, match=message):
            BayesianModule(net, "random_features", **options)
    for options in (
        {"members": 0},
        {"spread": 0.0},
        {"evidence_rows": 1},
        {"groups": 0},
        {"evidence": 1},
        {"batch_size": 5},
    ):
        with pytest.raises(UserError, match=next(iter(options))):
            RandomFeatures(**options)
    bnn = BayesianModule(net, "random_features")
    bnn.begin(rows=10, steps=5)
    with pytest.raises(UserError, match="needs all 10 rows"):
        bnn.step(torch.zeros(4, 2), torch.zeros(4, 1))


def test_groups_are_even():
    assert group_of(7, 3).bincount().tolist() == [3, 2, 2]
    assert group_of(300, 4).bincount().tolist() == [75] * 4
    assert math.isclose(float(group_of(5, 1).max()), 0)


@pytest.mark.parametrize("name", ["groups", "spread", "learning_rate", "members", "evidence_rows"])
def test_none_is_refused_where_a_value_is_needed(name):
    with pytest.raises(UserError, match=f"{name}=None"):
        RandomFeatures(**{name: None})
