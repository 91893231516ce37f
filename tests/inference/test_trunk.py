"""Draws over one trunk equal draws of whole networks."""

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import Gaussian, StackedNetwork, mlp
from dynapilco.inference.draws import make_draw, trunk_draw
from dynapilco.inference.draws.plain import plain_kernels
from dynapilco.inference.draws.trunk import check_last_layer, last_layer, last_layer_refusal, trunk_of
from tests.inference.curvature.nets import KINDS, network
from tests.inference.harness import rand

S, B = 4, 5
CLOSE = {"atol": 1e-9, "rtol": 1e-7}


def pair(net, flat, parts=("weight", "bias")):
    """The draw over one trunk, and that of S whole parameter vectors."""
    layer = last_layer(net.module)
    named = net.full.split(flat)
    names = [n for n in (f"{layer}.{part}".lstrip(".") for part in parts) if n in named]
    heads = {n: named[n] + rand(S, *named[n].shape[1:], seed=len(n)).to(flat) for n in names}
    noise = 0.1 + rand(S, 2, seed=2).abs().to(flat)
    whole = {n: heads.get(n, p.expand(S, *p.shape[1:])) for n, p in named.items()}
    return trunk_draw(net, layer, flat, heads, noise, Gaussian()), make_draw(
        net, net.full.join(whole), noise, Gaussian()
    )


@pytest.mark.parametrize("parts", [("weight", "bias"), ("weight",), ("bias",)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_it_is_the_draw_of_whole_networks(kind, parts):
    net, flat, shape = network(kind)
    draw, whole = pair(net, flat, parts)
    x = rand(S, B, *shape, seed=4)
    torch.testing.assert_close(draw.each(x), whole.each(x), **CLOSE)
    torch.testing.assert_close(draw(x[0]), whole(x[0]), **CLOSE)
    assert (draw(x[0])[0] - draw(x[0])[1]).abs().max() > 0.01
    torch.testing.assert_close(draw.predictive(x[0]).stddev, whole.predictive(x[0]).stddev)
    leaf = x.clone().requires_grad_(True)
    with plain_kernels(net.module):  # torch's fused transformer layer has no gradient
        gradients = [torch.autograd.grad(d.each(leaf).square().sum(), leaf)[0] for d in (draw, whole)]
    torch.testing.assert_close(*gradients, **CLOSE)
    with pytest.raises(UserError, match="3 batches"):
        draw.each(x[:3])


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
def test_the_dense_form_and_folds(hidden):
    net = StackedNetwork(mlp(3, 2, hidden).double())
    draw, whole = pair(net, net.own_parameters().unsqueeze(0))
    a, b, c, d = rand(3, seed=1), rand(3, seed=2), rand(2, seed=3), rand(2, seed=4)
    matrix = rand(6, 3, seed=5)
    steps = [
        (lambda f: f, 3), (lambda f: f.fold((a, b), (c, d)), 3), (lambda f: f.fold((a, b), (c, d)).project(matrix), 6),
        (lambda f: f.project(matrix).fold(None, (c, d)), 6),
    ]  # fmt: skip
    for change, width in steps:
        one, two, z = change(draw), change(whole), rand(S, B, width, seed=6)
        torch.testing.assert_close(one.each(z), two.each(z), **CLOSE)
        torch.testing.assert_close(one(z[0]), two(z[0]), **CLOSE)
        torch.testing.assert_close(one.dense(B)(z), two.each(z), **CLOSE)
        torch.testing.assert_close(one.scale, two.scale)
    stack = draw.dense(B)
    assert stack.groups == S
    assert all(w.stride(0) == 0 for w in stack.weights[:-1])  # the trunk is not copied


def test_float32():
    net = StackedNetwork(mlp(3, 2, (20, 20)))
    draw, whole = pair(net, net.own_parameters().unsqueeze(0))
    x = rand(S, B, 3).float()
    torch.testing.assert_close(draw.each(x), whole.each(x), atol=1e-5, rtol=1e-5)
    assert draw.dense(3).weights[0].dtype == draw(x[0]).dtype == torch.float32


class Sequence(nn.Module):
    """An output for each place of a sequence; no bias, and a frozen trunk."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 6), nn.Linear(6, 2, bias=False)
        self.body.weight.requires_grad_(False)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


def test_outputs_with_inner_axes_and_a_head_without_bias():
    net = StackedNetwork(Sequence().double())
    draw, whole = pair(net, net.own_parameters().unsqueeze(0))
    x = rand(S, B, 4, 3, seed=4)
    assert draw.each(x).shape == (S, B, 4, 2)
    torch.testing.assert_close(draw.each(x), whole.each(x), **CLOSE)
    torch.testing.assert_close(draw(x[0]), whole(x[0]), **CLOSE)
    assert draw.dense(3) is None


def test_the_trunk_shares_its_weights_and_leaves_the_module_alone():
    module = mlp(3, 2, (7,))
    trunk = trunk_of(module, "2")
    assert trunk[0].weight is module[0].weight
    assert isinstance(module[2], nn.Linear)
    assert trunk(torch.zeros(1, 3)).shape == (1, 7)


def test_a_head_that_is_tied_shared_or_excluded_is_refused():
    def reason(module, exclude=()):
        return last_layer_refusal(StackedNetwork(module, exclude=exclude))

    tied = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    assert "2.weight is tied" in reason(tied)
    layer = nn.Linear(3, 3)
    assert "more than once" in reason(nn.Sequential(layer, nn.Tanh(), layer))
    assert "excluded" in reason(mlp(3, 2, (7,)), ["2.*"])
    assert "no nn.Linear" in reason(nn.Sequential(nn.Conv1d(2, 1, 3), nn.Flatten()))
    assert reason(mlp(3, 2, (7,))) is None
    assert reason(mlp(3, 2, (7,)), ["2.bias"]) is None


class After(nn.Module):
    """Something follows the last Linear layer."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.body, self.head = kind, nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        if self.kind == "reads":
            return torch.nn.functional.linear(self.body(x), self.head.weight)
        h = self.head(torch.tanh(self.body(x)))
        return torch.tanh(h) if self.kind == "tanh" else h[..., :2]


@pytest.mark.parametrize("kind", ["tanh", "slice", "reads"])
def test_an_output_that_is_not_the_last_layers_is_found(kind):
    net = StackedNetwork(After(kind))
    with pytest.raises(UserError, match="'head'"):
        check_last_layer(net, net.own_parameters().unsqueeze(0), torch.randn(2, 3, generator=torch.Generator()))


def test_an_output_that_is_the_last_layers_passes():
    for kind in KINDS:
        net, flat, shape = network(kind)
        check_last_layer(net, flat, rand(2, *shape))


def test_large_terms_that_cancel_are_no_other_network():
    """In float32 terms of 1e4 that sum to about 1 leave errors of 1e-3; an output that is scaled is still found."""
    net = StackedNetwork(mlp(3, 1, (400,)).float())
    layers = net.full.split(net.own_parameters().unsqueeze(0))
    weight = layers["2.weight"].clone()
    half = weight.shape[-1] // 2
    weight[..., :half] = 100.0
    weight[..., half:] = -100.0
    for name in ("0.weight", "0.bias"):
        layers[name] = layers[name].clone()
        layers[name][:, half:] = layers[name][:, :half]
    params = net.full.join({**layers, "2.weight": weight})
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    check_last_layer(net, params, rows)
    doubled = StackedNetwork(Doubled(*net.module))
    with pytest.raises(UserError, match="not that of its last Linear layer"):
        check_last_layer(doubled, net.own_parameters().unsqueeze(0), rows)


class Doubled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)
