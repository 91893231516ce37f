"""Kronecker factors: exact where algebra says so, and as written elsewhere."""

import pytest
import torch
from torch import nn

from dynapilco.inference import FanInNormal, Gaussian, StackedNetwork
from dynapilco.inference.curvature.ggn import local_models, prior_precision
from dynapilco.inference.curvature.kfac import _patches, blocks_of, kronecker_factors
from dynapilco.inference.curvature.kronecker import Kronecker
from dynapilco.inference.curvature.plan import make_plan
from dynapilco.inference.curvature.structure import diagonal_ggn, full_ggn
from dynapilco.inference.target import BayesianModel, Target
from tests.inference.curvature.nets import KINDS, problem
from tests.inference.harness import rand


def covariance(structure, local, precision):
    """(m, m): what ``transform`` does to the unit vectors."""
    tensors = structure.posterior(local, precision)
    factor = structure.transform(tensors, torch.eye(precision.shape[0], dtype=torch.float64)).T
    return factor @ factor.T


def of(model, target, params, points):
    plan = make_plan(model.network, "all", "kfac")
    local = next(local_models(target, params, points))
    return plan.structure, local, prior_precision(model, params)[0][0] / target.temperature


def check_a_linear_layer(weights=None, temperature=1.0):
    """One layer, three outputs with their own noise, biases with another prior: nothing is approximated."""
    net = StackedNetwork(nn.Sequential(nn.Linear(4, 3)).double())
    model = BayesianModel(net, Gaussian(), FanInNormal(output_bias_scale=0.3), 3)
    params, points = rand(1, 15), model.likelihood.init(1, 3).double() + rand(1, 3, seed=1)
    target = Target(model, rand(9, 4, seed=2), rand(9, 3, seed=3), weights, temperature)
    structure, local, precision = of(model, target, params, points)
    truth = torch.linalg.inv(full_ggn(local, net.layout.names) + torch.diag(precision))
    torch.testing.assert_close(covariance(structure, local, precision), truth, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_linear_layer_is_exact(weighted, temperature):
    check_a_linear_layer(rand(9, seed=7).abs() if weighted else None, temperature)


def test_the_test_of_a_linear_layer_can_fail(monkeypatch):
    import dynapilco.inference.curvature.kronecker as module

    monkeypatch.setattr(module, "kronecker_factors", lambda *args: [(a, g / 2) for a, g in kronecker_factors(*args)])
    with pytest.raises(AssertionError):
        check_a_linear_layer()


@pytest.mark.parametrize("kind", ["mlp", "lstm", "attention"])
def test_one_row_is_exact_block_by_block(kind):
    """With N = 1 and layers applied once, A (x) G is the block of the matrix."""
    model, target, params, points = problem(kind, rows=1)
    structure, local, precision = of(model, target, params, points)
    found = covariance(structure, local, precision)
    exact = full_ggn(local, model.network.layout.names) + torch.diag(precision)
    places = model.network.layout.slices()
    seen = 0
    for block in structure.blocks:
        if kind == "attention" and block.layer != "head":  # applied at several positions
            continue
        index = torch.cat([torch.arange(params.shape[1])[places[n]] for n in block.names])
        own = torch.linalg.inv(exact[index][:, index])
        torch.testing.assert_close(found[index][:, index], own, atol=1e-10, rtol=1e-7)
        seen += 1
    assert seen == {"mlp": 3, "lstm": 1, "attention": 1}[kind]


@pytest.mark.parametrize("kind", list(KINDS))
def test_other_parameters_have_their_diagonal(kind):
    model, target, params, points = problem(kind)
    structure, local, precision = of(model, target, params, points)
    rest = {
        "mlp": (),
        "twice": (),
        "conv": ("3.weight", "3.bias"),
        "tied": ("down.weight", "up.bias"),
        "lstm": tuple(n for n in model.network.layout.names if n.startswith("cell")),
    }.get(kind)
    if rest is None:
        rest = tuple(n for n in model.network.layout.names if "self_attn" in n or "norm" in n)
    assert structure.rest == rest
    places = model.network.layout.slices()
    index = [torch.arange(params.shape[1])[places[n]] for n in rest]
    index = torch.cat(index) if index else torch.zeros(0, dtype=torch.long)
    found = covariance(structure, local, precision)
    truth = 1 / (diagonal_ggn(local, model.network.layout.names) + precision)
    torch.testing.assert_close(found.diagonal()[index], truth[index], atol=1e-12, rtol=1e-7)
    found[index] = 0  # no covariance with anything else
    torch.testing.assert_close(found[:, index], torch.zeros_like(found[:, index]))


def test_factors_of_a_layer_used_twice_sum_over_its_uses():
    model, target, params, points = problem("twice")
    local = next(local_models(target, params, points))
    block = next(b for b in blocks_of(model.network, model.network.layout.names) if b.layer == "inner")
    ((a, g),) = kronecker_factors(local, [block])
    named = model.network.layout.split(params[0])
    w, b = named["inner.weight"], named["inner.bias"]
    h0 = torch.tanh(target.all.x @ named["first.weight"].T + named["first.bias"])
    z1 = (h0 @ w.T + b).requires_grad_(True)
    h1 = torch.tanh(z1)
    z2 = h1 @ w.T + b
    f = torch.tanh(z2) @ named["head.weight"].T + named["head.bias"]
    uses = torch.cat([torch.cat([h, torch.ones(7, 1)], 1) for h in (h0, h1.detach())])
    torch.testing.assert_close(a, uses.T @ uses / 14, atol=1e-10, rtol=1e-8)
    sigma = model.likelihood.constrain(points)[0]
    truth = torch.zeros(5, 5, dtype=torch.float64)
    for c in range(2):
        for grad in torch.autograd.grad(f[:, c].sum(), [z1, z2], retain_graph=True):
            truth += grad.T @ grad / sigma[c] ** 2
    torch.testing.assert_close(g, truth, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(2, 3, 3, padding=1, stride=2), nn.Conv2d(2, 3, (3, 2), padding=(1, 0), stride=2, dilation=(1, 2)),
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Conv3d(2, 3, 2, bias=False),
    ],
)  # fmt: skip
def test_a_convolution_is_a_matrix_product_of_its_patches(layer):
    layer = layer.double()
    sizes = {1: (7,), 2: (6, 7), 3: (3, 4, 3)}[layer.weight.dim() - 2]
    x = rand(4, 2, *sizes)
    rows = _patches(layer, x)
    y = rows @ layer.weight.flatten(1).T
    y = y if layer.bias is None else y + layer.bias
    torch.testing.assert_close(y, layer(x).flatten(2).transpose(1, 2))


def test_a_convolution_with_one_position_is_exact_for_one_row():
    net = StackedNetwork(
        nn.Sequential(nn.Conv1d(2, 3, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(3, 2)).double()
    )
    model = BayesianModel(net, Gaussian(), FanInNormal(), 2)
    params, points = rand(1, net.layout.total), model.likelihood.init(1, 2).double()
    target = Target(model, rand(1, 2, 4, seed=2), rand(1, 2, seed=3))
    named = net.layout.split(params[0])
    signs = nn.functional.conv1d(target.all.x, named["0.weight"], named["0.bias"]).flatten().sign()
    assert signs.min() < 0 < signs.max()  # the ReLU works in place on the layer's output
    structure, local, precision = of(model, target, params, points)
    exact = full_ggn(local, net.layout.names) + torch.diag(precision)
    own = torch.linalg.inv(exact[:27, :27])
    torch.testing.assert_close(covariance(structure, local, precision)[:27, :27], own, atol=1e-10, rtol=1e-7)


def test_which_layers_factorise():
    module = nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.Conv1d(4, 4, 1, groups=2), nn.ConvTranspose1d(4, 2, 1), nn.Linear(3, 1)
    )
    net = StackedNetwork(module)
    assert [b.layer for b in blocks_of(net, net.layout.names)] == ["0", "3"]
    some = blocks_of(net, ["0.bias", "3.weight"])
    assert [(b.layer, b.parts) for b in some] == [("0", ("bias",)), ("3", ("weight",))]


@pytest.mark.parametrize("exclude", [["0.bias"], ["2.weight"], ["0.weight", "4.bias"]])
def test_layers_of_which_only_a_part_is_bayesian(exclude):
    model, target, params, points = problem("mlp", rows=1, exclude=exclude)
    structure, local, precision = of(model, target, params, points)
    exact = full_ggn(local, model.network.layout.names) + torch.diag(precision)
    found, places = covariance(structure, local, precision), model.network.layout.slices()
    for block in structure.blocks:
        index = torch.cat([torch.arange(params.shape[1])[places[n]] for n in block.names])
        own = torch.linalg.inv(exact[index][:, index])
        torch.testing.assert_close(found[index][:, index], own, atol=1e-10, rtol=1e-7)


@pytest.mark.parametrize("kind", list(KINDS))
def test_before_data_it_is_the_prior(kind):
    model, _, params, _ = problem(kind)
    structure = make_plan(model.network, "all", "kfac").structure
    assert isinstance(structure, Kronecker)
    precision = prior_precision(model, params)[0]
    tensors = {name: t[0] for name, t in structure.prior(precision).items()}
    factor = structure.transform(tensors, torch.eye(params.shape[1], dtype=torch.float64))
    torch.testing.assert_close(factor, torch.diag(precision[0].rsqrt()), atol=1e-10, rtol=1e-7)


def test_factors_over_positions_are_a_mean_and_a_sum():
    """A sequence: A averages over rows and positions, G sums over both."""
    net = StackedNetwork(nn.Sequential(nn.Linear(3, 4), nn.Flatten(), nn.Tanh(), nn.Linear(20, 2)).double())
    model = BayesianModel(net, Gaussian(fixed=0.5), FanInNormal(), 2)
    params, points = 0.5 * rand(1, net.layout.total), model.likelihood.init(1, 2).double()
    x = rand(6, 5, 3, seed=2)
    local = next(local_models(Target(model, x, rand(6, 2)), params, points))
    ((a, g),) = kronecker_factors(local, blocks_of(net, ["0.weight"]))
    torch.testing.assert_close(a, torch.einsum("bti,btj->ij", x, x) / 30, atol=1e-12, rtol=1e-9)
    named = net.layout.split(params[0])
    z = (x @ named["0.weight"].T + named["0.bias"]).flatten(1)
    slopes = (1 - torch.tanh(z) ** 2).unsqueeze(1) * named["3.weight"]  # (B, out, 5 * 4)
    slopes = slopes.reshape(-1, 4)
    torch.testing.assert_close(g, slopes.T @ slopes / 0.25, atol=1e-12, rtol=1e-9)
