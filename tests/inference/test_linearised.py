"""Linearised draws: forward plus Jacobian-vector product, however it is computed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import Gaussian, StackedNetwork, mlp
from dynapilco.inference.draws import LinearisedDraw
from dynapilco.inference.draws.linearised import SLOPES
from dynapilco.inference.draws.plain import plain_kernels
from dynapilco.inference.stack import ACTIVATIONS
from tests.inference.curvature.nets import KINDS, explicit_jacobian, network
from tests.inference.harness import rand

S, B = 4, 5
CLOSE = {"atol": 1e-9, "rtol": 1e-7}


def draw_of(net, flat, centres=1):
    centre = flat if centres == 1 else flat + 0.1 * rand(centres, flat.shape[1], seed=8)
    noise = 0.1 + rand(S, 2, seed=2).abs()
    tangents = rand(S, flat.shape[1], seed=3)
    return LinearisedDraw(S, noise, Gaussian(), network=net, centre=centre, tangents=tangents)


def by_jacobian(draw, x):
    """f + J delta, one function at a time."""
    net, out = draw.network, []
    for s in range(S):
        centre = draw.centre[s : s + 1] if len(draw.centre) > 1 else draw.centre
        jac = explicit_jacobian(net, centre, x[s])
        out.append(net.call({k: v[0] for k, v in net.full.split(centre).items()}, x[s]) + jac @ draw.tangents[s])
    return torch.stack(out)


@pytest.mark.parametrize("centres", [1, S])
@pytest.mark.parametrize("kind", list(KINDS))
def test_it_is_the_explicit_jacobian(kind, centres):
    net, flat, shape = network(kind)
    draw = draw_of(net, flat, centres)
    x = rand(S, B, *shape, seed=4)
    y = draw.each(x)
    torch.testing.assert_close(y, by_jacobian(draw, x), **CLOSE)
    torch.testing.assert_close(draw(x[0]), draw.each(x[:1].expand(S, *x.shape[1:])), **CLOSE)
    assert (y[0] - y[1]).abs().max() > 0.01
    assert draw.dense(3) is None
    with pytest.raises(UserError, match="3 batches"):
        draw.each(x[:3])


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_by_hand_by_vmap_and_in_a_loop(activation, dtype):
    """Three engines, one function; in float32 to 1e-5."""
    module = mlp(3, 2, (7, 6), activation).to(dtype)
    x = rand(S, B, 3).to(dtype)
    values, gradients = [], []
    for engine in ("dense", "vmap", "loop"):
        net = StackedNetwork(module, engine)
        draw = draw_of(net, net.own_parameters().unsqueeze(0))
        draw = replace(draw, tangents=draw.tangents.to(dtype))
        leaf = x.clone().requires_grad_(True)
        y = draw.each(leaf)
        assert y.dtype == dtype
        values.append(y.detach())
        gradients.append(torch.autograd.grad(y.square().sum(), leaf)[0])
        torch.testing.assert_close(draw(x[0]), draw.each(x[:1].expand_as(x)), atol=1e-5, rtol=1e-5)
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else CLOSE
    for value, gradient in zip(values[1:], gradients[1:], strict=True):
        torch.testing.assert_close(value, values[0], **tolerance)
        torch.testing.assert_close(gradient, gradients[0], atol=10 * tolerance["atol"], rtol=10 * tolerance["rtol"])
    assert set(SLOPES) == set(ACTIVATIONS)


def check_gradient(kind):
    """Policies are trained through it: d draw.each / dx by central differences."""
    net, flat, shape = network(kind)
    check_differences(draw_of(net, flat), rand(S, B, *shape, seed=4))


def check_differences(draw, x):
    x = x.requires_grad_(True)
    weights = rand(S, B, 2, seed=5)
    (gradient,) = torch.autograd.grad((weights * draw.each(x)).sum(), x)
    step, way = 1e-6, rand(*x.shape, seed=6)
    with torch.no_grad():
        ends = [(weights * draw.each(x + sign * step * way)).sum() for sign in (1, -1)]
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), (gradient * way).sum(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", list(KINDS))
def test_gradients_pass_to_the_inputs(kind):
    check_gradient(kind)


def test_the_test_of_gradients_can_fail(monkeypatch):
    monkeypatch.setitem(SLOPES, "tanh", lambda z, a: (1 - a * a).detach())
    with pytest.raises(AssertionError):
        check_gradient("mlp")


@pytest.mark.parametrize("engine", ["dense", "vmap"])
def test_folds_and_projections(engine):
    net = StackedNetwork(mlp(3, 2, (7,)).double(), engine)
    draw = draw_of(net, net.own_parameters().unsqueeze(0))
    a, b, c, d = rand(3, seed=1), rand(3, seed=2), rand(2, seed=3), rand(2, seed=4)
    matrix, z = rand(5, 3, seed=5), rand(S, B, 5, seed=6)
    folded = draw.fold((a, b), (c, d)).project(matrix)
    truth = c * draw.each(a * (z @ matrix) + b) + d
    torch.testing.assert_close(folded.each(z), truth, **CLOSE)
    torch.testing.assert_close(folded(z[0])[2], folded.each(z[:1].expand_as(z))[2], **CLOSE)
    torch.testing.assert_close(folded.scale, draw.scale * c.abs())
    assert folded.size == S


def test_switches_of_torch_are_put_back():
    def switches():
        backends = torch.backends
        return backends.mha.get_fastpath_enabled(), backends.mkldnn.enabled, backends.cudnn.enabled

    before = switches()
    with plain_kernels(nn.LSTM(2, 2)):
        assert switches() == (False, False, False)
    assert switches() == before
    with pytest.raises(RuntimeError), plain_kernels(nn.LSTM(2, 2)):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert switches() == before


NORMS = {
    "layer": lambda: nn.LayerNorm(4), "layers": lambda: nn.LayerNorm((6, 4), bias=False), "rms": lambda: nn.RMSNorm(4),
    "group": lambda: nn.GroupNorm(2, 6), "instance": lambda: nn.InstanceNorm1d(6, affine=True),
    "tracking": lambda: nn.InstanceNorm1d(6, track_running_stats=True).eval(), "glu": lambda: nn.GLU(-2),
    "batch": lambda: nn.BatchNorm1d(6).eval(),
}  # fmt: skip


@pytest.mark.parametrize("name", list(NORMS))
def test_values_and_gradients_through_norms(name):
    """Fused norms give wrong gradients of forward-mode derivatives in torch 2.13."""
    module = nn.Sequential(nn.Linear(4, 4), NORMS[name](), nn.Flatten(), nn.Linear(12 if name == "glu" else 24, 2))
    net = StackedNetwork(module.double())
    flat = 0.5 * rand(1, net.full.total)
    draw, x = draw_of(net, flat), rand(S, B, 6, 4)
    torch.testing.assert_close(draw.each(x), by_jacobian(draw, x), **CLOSE)
    check_differences(draw, x)


def test_a_draw_is_fixed_and_row_by_row():
    net = StackedNetwork(mlp(3, 2, (7,)).double())
    draw, x = draw_of(net, net.own_parameters().unsqueeze(0)), rand(S, B, 3)
    first = draw.each(x)
    draw.predictive(x[0])
    assert torch.equal(draw.each(x), first)
    torch.testing.assert_close(draw.each(x[:, 2:4]), first[:, 2:4], **CLOSE)
