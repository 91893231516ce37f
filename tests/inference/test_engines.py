"""One module, S weight sets: compiled kernel, batched products, vmap and a loop agree in values and gradients."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from dynapilco.core.errors import UserError
from dynapilco.inference import StackedNetwork, mlp
from dynapilco.inference.examples import EXAMPLES
from dynapilco.inference.random import global_generator_from
from tests.inference.harness import gen

S, B = 3, 5
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


def module_of(example):
    with global_generator_from(gen(7)):
        return example.build(2)


def weights_of(network, dtype=torch.float32):
    own = network.own_parameters().to(dtype)
    return own + 0.3 * torch.randn(S, own.shape[0], generator=gen(1), dtype=dtype)


def value_and_slope(network, flat, x, kind="each"):
    leaf = flat.clone().requires_grad_()
    f = network.each(leaf, x) if kind == "each" else network.shared(leaf, x[0])
    (slope,) = torch.autograd.grad(f.square().sum(), leaf)
    return f.detach(), slope


def engines(example):
    if example.name == "MLP":
        return ["auto", "dense", "vmap", "loop"]  # auto: the compiled kernel
    return ["loop"] if example.name == "LSTM" else ["vmap", "loop"]


@pytest.mark.parametrize("evaluating", [False, True], ids=["training", "evaluating"])
@pytest.mark.parametrize("kind", ["each", "shared"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_engines_agree_with_module_calls(name, kind, evaluating):
    example = EXAMPLES[name]
    module = module_of(example)
    for part in module.modules():
        if isinstance(part, nn.Dropout | nn.MultiheadAttention):
            part.p = part.dropout = 0.0
    module.train(not evaluating)
    flat = weights_of(StackedNetwork(module))
    x = torch.stack([example.inputs(B, gen(seed)) for seed in range(S)])
    named = StackedNetwork(module).full.split(flat)
    wanted = torch.stack(
        [
            functional_call(module, {k: v[s] for k, v in named.items()}, (x[s] if kind == "each" else x[0],))
            for s in range(S)
        ]
    ).detach()
    slopes = []
    for engine in engines(example):
        f, slope = value_and_slope(StackedNetwork(module, engine), flat, x, kind)
        torch.testing.assert_close(f, wanted, **CLOSE)
        with torch.no_grad():  # the fused kernels of evaluation mode would come in here
            network = StackedNetwork(module, engine)
            again = network.each(flat, x) if kind == "each" else network.shared(flat, x[0])
            torch.testing.assert_close(again, wanted, **CLOSE)
        slopes.append(slope)
    for slope in slopes[1:]:
        torch.testing.assert_close(slope, slopes[0], atol=1e-5 * float(slope.abs().max()), rtol=1e-5)


def test_dense_float32_runs_in_the_kernel_and_float64_in_torch():
    network = StackedNetwork(mlp(3, 2, (4,)))
    assert network.widths == (3, 4, 2)
    flat, x = weights_of(network), torch.randn(S, B, 3, generator=gen(2))
    fast, slope = value_and_slope(network, flat, x)
    slow, wanted = value_and_slope(network, flat.double(), x.double())
    torch.testing.assert_close(fast.double(), slow, **CLOSE)
    torch.testing.assert_close(slope.double(), wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-5)


def test_masks_that_are_learned_get_gradients_and_missing_masks_are_ones():
    network = StackedNetwork(mlp(3, 2, (4, 4)))
    flat, x = weights_of(network), torch.randn(S, B, 3, generator=gen(2))
    mask = torch.rand(S, B, 4, generator=gen(3))
    plain = network.masked(flat, x, (mask, None))
    torch.testing.assert_close(plain, network.masked(flat, x, (mask, torch.ones_like(mask))), **CLOSE)
    leaf = mask.clone().requires_grad_()
    f = network.masked(flat, x, (leaf, None))
    torch.testing.assert_close(f.detach(), plain, **CLOSE)
    assert torch.autograd.grad(f.sum(), leaf)[0].abs().sum() > 0


def test_the_fast_path_of_attention_is_off_without_touching_the_users_module():
    module = module_of(EXAMPLES["TransformerEncoder"]).eval()
    network = StackedNetwork(module)
    network.shared(weights_of(network), torch.randn(B, 3, 3, generator=gen()))
    assert not any(part.training for part in module.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_tied_layers_are_no_plain_stack():
    network = StackedNetwork(module_of(EXAMPLES["tied weights"]))
    assert network.dense_plan is None
    assert "4.weight" not in network.full.names
    with pytest.raises(UserError, match="engine='dense'"):
        StackedNetwork(module_of(EXAMPLES["tied weights"]), "dense")


def test_recurrent_layers_run_in_a_loop_and_can_be_copied_afterwards():
    module = module_of(EXAMPLES["LSTM"])
    with pytest.raises(UserError, match="engine='vmap' cannot run recurrent layers"):
        StackedNetwork(module, "vmap")
    network = StackedNetwork(module)
    assert network.engine == "loop"
    value_and_slope(network, weights_of(network), torch.randn(S, B, 2, 3, generator=gen()))
    assert network.fresh_parameters(2, gen()).shape == (2, network.full.total)


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x))).squeeze(-1)


class Projected(nn.Module):
    """Attention whose keys and values have widths of their own."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, batch_first=True)
        self.q, self.k, self.v = nn.Linear(3, 4), nn.Linear(3, 3), nn.Linear(3, 5)

    def forward(self, x):
        return self.attention(self.q(x), self.k(x), self.v(x), need_weights=False)[0].mean(1)


@pytest.mark.parametrize(("make", "shape"), [(Scalar, (3,)), (Projected, (2, 3))])
def test_other_modules(make, shape):
    with global_generator_from(gen(5)):
        module = make()
    x = torch.randn(S, B, *shape, generator=gen())
    flat = weights_of(StackedNetwork(module))
    (a, da), (b, db) = (value_and_slope(StackedNetwork(module, engine), flat, x) for engine in ("vmap", "loop"))
    torch.testing.assert_close(a, b, **CLOSE)
    torch.testing.assert_close(da, db, atol=1e-4, rtol=1e-4)
    assert a.shape[:2] == (S, B)
