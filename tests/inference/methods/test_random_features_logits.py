"""Random features of yes-or-no targets: Laplace's evidence and last layers, and probabilities that hold."""

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import (
    BayesianModel,
    BayesianModule,
    Bernoulli,
    FanInNormal,
    Joint,
    NormalPrior,
    StackedNetwork,
    Target,
    evidence,
    fit,
    mlp,
)
from dynapilco.inference.evidence import Rows, last_layer, logit_layer, wide_kernel
from dynapilco.inference.evidence.kernel import output_shares
from dynapilco.inference.evidence.logistic import negative_log_laplace
from dynapilco.inference.methods.random_features import RandomFeatures
from tests.inference.harness import gen, rand


def kernel_of(x, log_variance, log_length):
    return log_variance.exp() * torch.exp(-0.5 * torch.cdist(x, x).square() / log_length.exp()) + 25.0


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_the_evidence_counts_the_movement_of_the_mode(weighted):
    x = rand(30, 2)
    y, weights = (x[:, :1] > 0.3).double(), 2 * torch.rand(30, generator=gen(1), dtype=torch.float64)

    def value(hyper):
        kernel = kernel_of(x, *hyper).unsqueeze(0)
        return negative_log_laplace(kernel, y, weights if weighted else None, torch.zeros(1, 30, dtype=torch.float64))

    hyper = torch.tensor([1.0, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (hyper,), eps=1e-5, atol=1e-4)


def test_the_evidence_of_one_row_is_that_of_a_plain_laplace_approximation():
    """K = k: minimise f^2 / 2k + log(1 + exp(-f)) by bisection, in plain text."""
    k, low, high = 3.0, 0.0, 10.0
    for _ in range(100):
        f = (low + high) / 2
        slope = f / k - 1 / (1 + torch.tensor(f).double().exp())
        low, high = (low, f) if slope > 0 else (f, high)
    f = torch.tensor(f, dtype=torch.float64)
    p = f.sigmoid()
    expected = f.square() / (2 * k) - p.log() + 0.5 * (1 + k * p * (1 - p)).log()
    one, modes = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    found = negative_log_laplace(torch.full((1, 1, 1), k, dtype=torch.float64), one, None, modes)
    torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(modes[0, 0], 1 - p, atol=1e-6, rtol=0)  # where it ended is where it begins next
    again = negative_log_laplace(torch.full((1, 1, 1), k, dtype=torch.float64), one, None, modes)
    torch.testing.assert_close(again, found, atol=1e-6, rtol=0)


def logistic(temperature=1.0):
    """Bayesian logistic regression, and Laplace's mean and covariance by Newton's method in plain text."""
    x = rand(80, 2)
    y = (torch.rand(80, 1, generator=gen(2)).double() < (1.5 * x[:, :1] - 1).sigmoid()).double()
    model = BayesianModel(StackedNetwork(nn.Sequential(nn.Linear(2, 1)).double()), Bernoulli(), NormalPrior(1.5), 1)
    design = torch.cat([x, torch.ones(80, 1)], 1)
    theta, identity = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64) / 1.5**2
    for _ in range(30):
        p = (design @ theta).sigmoid()
        precision = design.T @ (design * (p * (1 - p)).unsqueeze(1)) + identity
        theta = theta - torch.linalg.solve(precision, design.T @ (p - y[:, 0]) + theta / 1.5**2)
    return model, Target(model, x, y, temperature=temperature), theta, temperature * torch.linalg.inv(precision)


def check_moments(temperature=1.0):
    model, target, mean, covariance = logistic(temperature)
    method = RandomFeatures(members=4000, evidence=False, temperature=temperature)
    state = method.init(model, gen(3))
    fit(method, state, target, gen(4), steps=1)
    params = state["params"]
    assert ((params.mean(0) - mean).abs() < 5 * (covariance.diagonal() / 4000).sqrt()).all()
    scale = covariance.diagonal().rsqrt()
    found, exact = (c * torch.outer(scale, scale) for c in (torch.cov(params.T), covariance))
    torch.testing.assert_close(found, exact, atol=5 * (2 / 4000) ** 0.5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_members_are_samples_of_laplaces_approximation(temperature):
    check_moments(temperature)


def test_a_broken_factor_is_noticed(monkeypatch):
    true = logit_layer._Problem.derivatives

    def broken(self, u):
        gradient, hessian = true(self, u)
        return gradient, 2 * hessian

    monkeypatch.setattr(logit_layer._Problem, "derivatives", broken)
    with pytest.raises(AssertionError):
        check_moments()


def test_members_in_blocks_are_the_same(monkeypatch):
    model, target, *_ = logistic()
    found = []
    for held in (10**9, 500):
        monkeypatch.setattr(logit_layer, "HELD_NUMBERS", held)
        method = RandomFeatures(members=7, evidence=False)
        state = method.init(model, gen(3))
        fit(method, state, target, gen(4), steps=1)
        found.append(state["params"])
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)


def joint(rows=200, seed=0, hidden=100, dtype=torch.float64):
    """A number, and a yes in one row of thirty, beyond a surface that only the first two of four inputs know of."""
    x = (2 * torch.rand(rows, 4, generator=gen(seed)) - 1).to(dtype)
    beyond = x[:, 0] + 0.3 * x[:, 1]
    y = torch.stack([(2 * x[:, 0]).sin() + x[:, 1], (beyond > 1.0).to(dtype)], 1)
    prior = FanInNormal(1.0, (2.0, 8.0), (0.1, 5.0))
    model = BayesianModel(
        StackedNetwork(mlp(4, 2, (hidden,)).to(dtype)), Joint((("gaussian", 1), ("bernoulli", 1))), prior, 2
    )
    return model, x, y, beyond


def test_probabilities_beside_numbers():
    model, x, y, _ = joint(300, dtype=torch.float32)
    method = RandomFeatures(members=20)
    state = method.init(model, gen())
    assert not fit(method, state, Target(model, x, y), gen(1), steps=100).diverged
    assert "modes" not in state
    _, test, truth, beyond = joint(2000, seed=9, dtype=torch.float32)
    f = method.draw(model, state, 20, gen(2))(test)
    number, p = f[..., 0].mean(0), f[..., 1].sigmoid().mean(0)
    assert (number - truth[:, 0]).square().mean().sqrt() < 0.05
    assert p[beyond < 0.6].mean() < 0.02 and p[beyond > 1.15].mean() > 0.8
    assert (p - truth[:, 1]).square().mean() < 0.5 * truth[:, 1].mean() * (1 - truth[:, 1].mean())
    relevance = state["log_relevance"].exp()[0, 1]
    assert relevance[0] > 5 * relevance[2:].max()


def test_numbers_are_learned_as_without_the_answers_beside_them():
    """Given the same hyper-parameters, the last layer of a number does not know of the logit."""
    model, x, y, _ = joint()
    rows, layer = Rows(x, y, None), last_layer.LastLayer.of(model)
    state = RandomFeatures(members=3).init(model, gen())
    pieces = []
    for answers in (y[:, 1], 1 - y[:, 1]):
        rows = Rows(x, torch.stack([y[:, 0], answers], 1), None)
        found = evidence.solved_members(
            model, rows, state["anchors"], state["points"], evidence.hyper_of(state, 0), 1.0, gen(5)
        )
        pieces.append(layer.weights(found))
    assert torch.equal(pieces[0][:, 0], pieces[1][:, 0])
    assert (pieces[0][:, 1] - pieces[1][:, 1]).abs().max() > 1


def test_the_evidence_looks_at_the_rare_answers():
    model, x, y, _ = joint(2000)
    rows = Rows.of(Target(model, x, y).all, 0, most=100)
    rare = int(y[:, 1].sum())
    assert rare > 20 and len(rows.y) == 100
    assert int(rows.y[:, 1].sum()) == min(rare, 50)
    assert (rows.y == y[[int((x == row).all(1).nonzero()[0]) for row in rows.x]]).all()
    alike = Rows.of(Target(model, x, torch.zeros_like(y)).all, 0, most=100)
    assert len(alike.y) == 100


def test_outputs_with_prior_scales_of_their_own_have_the_kernel_of_the_widest():
    model, x, *_ = joint(6)
    kernel = wide_kernel(model.network, model.prior)
    wide = wide_kernel(model.network, FanInNormal(1.0, 8.0, 0.1))
    assert kernel is not None and wide is not None
    torch.testing.assert_close(kernel(x), wide(x))
    std = model.network.layout.split(model.prior.std(model.network.layout))["2.weight"]
    assert output_shares(std).flatten().tolist() == [0.25, 1.0]


def test_priors_and_likelihoods_that_do_not_fit():
    for scales in ((1.0, 0.0), (), (1.0, float("inf"))):
        with pytest.raises(UserError, match="output_scale"):
            FanInNormal(1.0, scales)
    model, *_ = joint()
    with pytest.raises(UserError, match="each of 2 outputs"):
        FanInNormal(1.0, (1.0, 2.0, 3.0)).std(model.network.layout)
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    blocks = (("gaussian", 1), ("poisson", 1))
    with pytest.raises(UserError, match="got Joint of Gaussian, Poisson"):
        BayesianModule(net, "random_features", likelihood=Joint(blocks))
