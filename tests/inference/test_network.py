"""One module, S parameter vectors: batched products, vmap and a plain loop agree."""

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call

from dynapilco.core.errors import UserError
from dynapilco.inference import DenseStack, StackedNetwork, mlp
from dynapilco.inference.stack import ACTIVATIONS

S, B = 4, 6


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 2)
        self.gate = nn.Parameter(torch.ones(5))

    def forward(self, x):
        return self.second(torch.sin(self.first(x)) * self.gate) + x[..., :2]


class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def tied():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer)


def shared_activation():
    act = nn.Tanh()
    return nn.Sequential(nn.Linear(3, 5), act, nn.Linear(5, 4), act, nn.Linear(4, 2))


MODULES = {
    "tanh": lambda: mlp(3, 2, (5, 4)),
    "relu": lambda: mlp(3, 2, (5,), "relu"),
    "silu": lambda: mlp(3, 2, (5, 4, 3), "silu"),
    "linear": lambda: mlp(3, 2, ()),
    "bare": lambda: nn.Linear(3, 2),
    "no-bias": lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2)),
    "two-kinds": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)),
    "gelu": lambda: nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)),
    "shared-activation": shared_activation,
    "tied": tied,
    "subclass": lambda: Skip(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)),
    "residual": Residual,
}
DENSE = ("tanh", "relu", "silu", "linear", "shared-activation")


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def loop(module, network, flat, x):
    """The plain truth: one module call for each parameter vector."""
    rows = network.layout.split(flat)
    calls = [functional_call(module, {k: v[s] for k, v in rows.items()}, (x[s],)) for s in range(len(flat))]
    return torch.stack(calls)


@pytest.mark.parametrize("engine", ["auto", "vmap"])
@pytest.mark.parametrize("kind", MODULES)
def test_every_engine_equals_a_loop_over_modules(kind, engine):
    module = MODULES[kind]()
    network = StackedNetwork(module, engine)
    assert (network.dense_plan is not None) == (engine == "auto" and kind in DENSE)
    flat = torch.randn(S, network.layout.total, generator=gen())
    x = torch.randn(S, B, 3, generator=gen(1))
    torch.testing.assert_close(network.each(flat, x), loop(module, network, flat, x), atol=1e-5, rtol=1e-5)
    same = x[0].expand(S, B, 3)
    torch.testing.assert_close(network.shared(flat, x[0]), loop(module, network, flat, same), atol=1e-5, rtol=1e-5)


def test_layout_splits_and_joins():
    layout = StackedNetwork(Residual()).layout
    flat = torch.arange(2.0 * layout.total).reshape(2, -1)
    named = layout.split(flat)
    assert {k: tuple(v.shape[1:]) for k, v in named.items()} == {
        k: tuple(p.shape) for k, p in Residual().named_parameters()
    }
    assert torch.equal(layout.join(named), flat)


def test_frozen_parameters_are_not_inferred():
    module = Residual()
    module.gate.requires_grad_(False)
    assert "gate" not in StackedNetwork(module).layout.names
    plain = mlp(3, 2, (5,))
    plain[0].weight.requires_grad_(False)
    network = StackedNetwork(plain)
    assert network.dense_plan is None
    flat, x = torch.randn(S, network.layout.total, generator=gen()), torch.randn(S, B, 3, generator=gen(1))
    torch.testing.assert_close(network.each(flat, x), loop(plain, network, flat, x))


def test_the_module_is_left_as_it_was():
    module = mlp(3, 2, (5,))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    for engine in ("auto", "vmap"):
        network = StackedNetwork(module, engine)
        flat = torch.randn(S, network.layout.total, generator=gen(), requires_grad=True)
        network.shared(flat, torch.zeros(B, 3)).sum().backward()
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StackedNetwork(nn.Tanh()), "no trainable parameters"),
        (lambda: StackedNetwork(mlp(1, 1), "fast"), "engine='fast'"),
        (lambda: StackedNetwork(Residual(), "dense"), "engine='dense'"),
        (lambda: StackedNetwork(Residual()).dense(torch.zeros(1, 1)), "not a plain stack"),
        (lambda: mlp(1, 1, (4,), "gelu"), "activation='gelu'"),
        (lambda: mlp(1, 1, (4, 0)), "at least 1"),
        (lambda: mlp(0, 1, (4,)), "at least 1"),
    ],
)
def test_errors(make, words):
    with pytest.raises(UserError, match=words):
        make()


def random_stack(groups, masks=None, activation="tanh"):
    g, widths = gen(), (3, 5, 4, 2)
    weights = tuple(torch.randn(groups, a, b, generator=g) for a, b in itertools.pairwise(widths))
    biases = tuple(torch.randn(groups, b, generator=g) for b in widths[1:])
    return DenseStack(weights, biases, masks or (None, None), activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_stack_equals_layers_written_out(activation):
    masks = tuple((torch.rand(B, w, generator=gen(w)) < 0.5).float() * 2 for w in (5, 4))
    stack = random_stack(1, masks, activation)
    x = torch.randn(1, B, 3, generator=gen(1))
    act = ACTIVATIONS[activation]
    h = x[0]
    for layer in range(2):
        h = act(h @ stack.weights[layer][0] + stack.biases[layer][0]) * masks[layer]
    torch.testing.assert_close(stack(x)[0], h @ stack.weights[2][0] + stack.biases[2][0], atol=1e-5, rtol=1e-5)


def test_masks_need_shared_weights():
    with pytest.raises(ValueError, match="G = 1"):
        random_stack(2, (torch.ones(B, 5), None))


def test_affine_maps_fold_into_a_stack():
    stack, x = random_stack(S), torch.randn(S, B, 3, generator=gen(1))
    a, b = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.3, 0.0, -1.0])
    c, d = torch.tensor([3.0, -0.2]), torch.tensor([1.0, 5.0])
    matrix = torch.randn(6, 3, generator=gen(2))
    z = torch.randn(S, B, 6, generator=gen(3))
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(stack.fold_input(a, b)(x), stack(a * x + b), **close)
    torch.testing.assert_close(stack.fold_output(c, d)(x), c * stack(x) + d, **close)
    torch.testing.assert_close(stack.project_input(matrix)(z), stack(z @ matrix), **close)
