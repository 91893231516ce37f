"""Jacobians, likelihood curvature and the matrix that they make."""

import math

import pytest
import torch
from torch import nn

from dynapilco.inference import Gaussian, NormalPrior, StackedNetwork, mlp
from dynapilco.inference.curvature import ggn
from dynapilco.inference.curvature.factor import covariance_factor
from dynapilco.inference.curvature.ggn import jacobian, likelihood_roots, local_models, prior_precision
from dynapilco.inference.curvature.structure import diagonal_ggn, full_ggn
from dynapilco.inference.likelihoods import make_likelihood
from dynapilco.inference.priors import Prior
from dynapilco.inference.target import BayesianModel, Target
from tests.inference.curvature.nets import KINDS, explicit_jacobian, network, problem
from tests.inference.harness import rand

CLOSE = {"atol": 1e-9, "rtol": 1e-7}


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_jacobian_is_that_of_backward_passes(kind):
    net, flat, shape = network(kind)
    x = rand(4, *shape, seed=5)
    truth = explicit_jacobian(net, flat, x)
    torch.testing.assert_close(jacobian(net, flat[0], net.full.names, x), truth, **CLOSE)
    some = net.full.names[1:3]
    places = torch.cat([torch.arange(net.full.total)[net.full.slices()[n]] for n in some])
    torch.testing.assert_close(jacobian(net, flat[0], some, x), truth[..., places], **CLOSE)


class Own(Gaussian):
    """Takes the way of likelihoods without a closed form."""


def hessian(likelihood, raw, f, y):
    """Row by row, with torch's own Hessian."""
    rows = []
    for a, b in zip(f[0], y, strict=True):
        rows.append(
            -torch.autograd.functional.hessian(
                lambda v, b=b: likelihood.log_prob(raw, v.reshape(1, 1, -1), b.unsqueeze(0)).sum(), a
            )
        )
    return torch.stack(rows)


def targets(name, rows=6):
    if name == "categorical":
        return torch.arange(rows).reshape(-1, 1) % 3
    if name == "bernoulli":
        return (torch.arange(3 * rows).reshape(-1, 3) % 2).double()
    return rand(rows, 3, seed=2).abs().round() if name == "poisson" else rand(rows, 3, seed=2)


@pytest.mark.parametrize("name", ["gaussian", "own", "categorical", "bernoulli", "poisson"])
def test_the_curvature_of_log_concave_likelihoods(name):
    likelihood = Own() if name == "own" else make_likelihood(name)
    outputs = 1 if name == "categorical" else 3
    raw = likelihood.init(1, outputs).double()
    y, f = likelihood.prepare(targets(name), outputs), rand(1, 6, 3, seed=3)
    roots = likelihood_roots(likelihood, raw.float(), f, y)
    assert roots.dtype == torch.float64
    raw = raw.float().double()  # what the float32 parameters say
    torch.testing.assert_close(roots @ roots.transpose(-1, -2), hessian(likelihood, raw, f, y), atol=1e-9, rtol=1e-6)
    if name == "categorical":
        p = f[0].softmax(-1)
        torch.testing.assert_close(
            roots @ roots.transpose(-1, -2), torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2), **CLOSE
        )


def test_what_is_not_convex_is_made_so():
    """Student-t residuals in the tails have negative curvature: it counts as none."""
    likelihood = make_likelihood("student_t")
    raw = likelihood.init(1, 1).double()
    f, y = torch.zeros(1, 2, 1, dtype=torch.float64), torch.tensor([[0.0], [50.0]], dtype=torch.float64)
    truth = hessian(likelihood, raw, f, y).flatten()
    assert truth[0] > 0 > truth[1]
    found = likelihood_roots(likelihood, raw, f, y).square().flatten()
    torch.testing.assert_close(found, truth.clamp_min(0.0), **CLOSE)


def explicit_ggn(model, target, params, points):
    """sum_i w_i J_i^T Lambda J_i / T, written out, in the Bayesian weights."""
    full = model.full(params, points)
    jac = model.network.divide(explicit_jacobian(model.network, full, target.all.x))[0]
    sigma = model.likelihood.constrain(model.split_points(points)[0])[0]
    w = torch.ones(target.rows) if target.all.weights is None else target.all.weights
    terms = [wi * j.T @ torch.diag(sigma**-2) @ j for wi, j in zip(w, jac, strict=True)]
    return torch.stack(terms).sum(0) / target.temperature


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_matrix_is_that_of_the_formula(kind, monkeypatch):
    model, target, params, points = problem(kind)
    truth = explicit_ggn(model, target, params, points)
    local = next(local_models(target, params, points))
    names = model.network.layout.names
    torch.testing.assert_close(full_ggn(local, names), truth, atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(diagonal_ggn(local, names), truth.diagonal(), atol=1e-8, rtol=1e-6)
    monkeypatch.setattr(ggn, "CHUNK", 3 * params.shape[1] * 2)  # three rows at a time
    torch.testing.assert_close(full_ggn(local, names), truth, atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(diagonal_ggn(local, names), truth.diagonal(), atol=1e-8, rtol=1e-6)


def test_weights_temperature_and_excluded_parameters():
    weights = torch.rand(7, generator=torch.Generator().manual_seed(1)).double() + 0.1
    model, target, params, points = problem("conv", weights=weights, temperature=0.3, exclude=["3.*"])
    local = next(local_models(target, params, points))
    names = model.network.layout.names
    assert "3.weight" not in names
    torch.testing.assert_close(full_ggn(local, names), explicit_ggn(model, target, params, points), **CLOSE)


def test_each_member_sees_its_own_data():
    model, target, params, _ = problem("mlp")
    x, y = target.all.x, target.all.y
    both = Target(model, torch.stack([x, 2 * x]), torch.stack([y, y]))
    params = torch.cat([params, params + 0.1, params, params - 0.1])
    points = model.likelihood.init(4, 2).double() + rand(4, 2, seed=9)
    found = list(local_models(both, params, points))
    names = model.network.layout.names
    for s, local in enumerate(found):
        alone = Target(model, x * (1 + s // 2), y)
        truth = explicit_ggn(model, alone, params[s : s + 1], points[s : s + 1])
        torch.testing.assert_close(full_ggn(local, names), truth, **CLOSE)


def test_curvature_in_float32_is_summed_in_float64():
    """Near-deterministic data: the matrix spans many powers of ten and still is that of the float32 Jacobian."""
    net = StackedNetwork(mlp(3, 2, (6,)))
    model = BayesianModel(net, Gaussian(fixed=1e-3), NormalPrior(), 2)
    params, points = model.initial(1, torch.Generator().manual_seed(0))
    x = rand(200, 3).float()
    local = next(local_models(Target(model, x, rand(200, 2).float()), params, points))
    found = full_ggn(local, net.layout.names)
    jac = jacobian(net, params[0], net.layout.names, x).double().flatten(0, 1)
    torch.testing.assert_close(found, jac.T @ jac * 1e6, rtol=1e-6, atol=1e-2)
    assert found.dtype == torch.float64


class Kinked(Prior):
    """|theta|: no curvature anywhere."""

    def log_prob(self, params, layout):
        return -params.abs().sum(-1)

    def sample(self, layout, size, generator):
        raise NotImplementedError

    def std(self, layout):
        return torch.full((layout.total,), 2**0.5)


def test_priors_without_curvature_get_a_little():
    model, _, params, _ = problem("mlp", prior=Kinked())
    precision, share = prior_precision(model, params)
    torch.testing.assert_close(precision, torch.full_like(precision, ggn.PRIOR_FLOOR / 2))
    assert share.tolist() == [1.0]
    model, _, params, _ = problem("mlp", prior=NormalPrior(0.5))
    precision, share = prior_precision(model, params)
    torch.testing.assert_close(precision, torch.full_like(precision, 4.0))
    assert share.tolist() == [0.0]


def test_factors_of_covariances():
    a = rand(6, 6)
    precision = a @ a.T + torch.eye(6)
    factor, jitter = covariance_factor(precision)
    torch.testing.assert_close(factor @ factor.T, torch.linalg.inv(precision), **CLOSE)
    assert jitter == 0
    flat = torch.ones(3, 3, dtype=torch.float64)
    flat[0, 0] -= 1e-13  # negative on paper
    factor, jitter = covariance_factor(flat)
    assert torch.isfinite(factor).all() and jitter > 0
    for hopeless in (torch.full((2, 2), math.nan, dtype=torch.float64), -torch.eye(2, dtype=torch.float64)):
        factor, jitter = covariance_factor(hopeless)
        assert factor.isnan().all() and jitter.isnan()


def test_a_module_in_forward_only_frozen_parts():
    """Parameters without gradient are no part of it."""
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    module[0].weight.requires_grad_(False)
    net = StackedNetwork(module)
    flat = net.own_parameters()
    x = rand(4, 3)
    found = jacobian(net, flat, net.full.names, x)
    assert found.shape == (4, 2, 4 + 8 + 2)
    torch.testing.assert_close(found, explicit_jacobian(net, flat.unsqueeze(0), x), **CLOSE)
