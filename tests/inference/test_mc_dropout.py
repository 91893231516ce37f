"""Monte Carlo dropout: one mask is one function."""

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, FanInNormal, Gaussian, MCDropout, StackedNetwork, Target, fit, mlp

IN, OUT, B = 2, 2, 7


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    return BayesianModel(StackedNetwork(mlp(IN, OUT, (20, 30))), Gaussian(), FanInNormal(), OUT)


def test_functions_equal_masked_forward_passes_by_hand(model):
    method = MCDropout(rate=0.3)
    state = method.init(model, gen())
    state["params"] = torch.randn(state["params"].shape, generator=gen(4))
    draw = method.draw(model, state, 5, gen(1))
    x = torch.randn(B, IN, generator=gen(2))
    named = {k: v[0] for k, v in model.network.layout.split(state["params"]).items()}
    y = draw(x)
    for s in range(5):
        h = x
        for layer, mask in enumerate(draw.stack.masks):
            linear = nn.functional.linear(h, named[f"{2 * layer}.weight"], named[f"{2 * layer}.bias"])
            h = torch.tanh(linear) * mask[s]
        torch.testing.assert_close(
            y[s], nn.functional.linear(h, named["4.weight"], named["4.bias"]), atol=1e-5, rtol=1e-5
        )
    assert torch.equal(draw(x), y)  # fixed until the next draw
    assert not torch.equal(method.draw(model, state, 5, gen(2))(x), y)
    assert torch.equal(method.draw(model, state, 5, gen(1))(x), y)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masks_drop_at_the_rate_and_keep_the_mean(model, rate):
    draw = MCDropout(rate=rate).draw(model, MCDropout().init(model, gen()), 3000, gen(1))
    for mask, width in zip(draw.stack.masks, (20, 30), strict=True):
        assert mask.shape == (3000, width)
        assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])
        assert (mask == 0).float().mean().item() == pytest.approx(rate, rel=0.05)
        rows = torch.corrcoef(mask.T) - torch.eye(width)
        assert rows.abs().max() < 0.12  # independent units


def test_rate_zero_is_a_deterministic_network(model):
    method = MCDropout(rate=0.0)
    state = method.init(model, gen())
    x = torch.randn(B, IN, generator=gen(2))
    y = method.draw(model, state, 4, gen(1))(x)
    torch.testing.assert_close(y, model.network.shared(state["params"], x).expand(4, B, OUT))


def test_training_with_rate_zero_minimises_the_plain_potential(model):
    x = torch.randn(40, IN, generator=gen(2))
    target = Target(model, x, torch.sin(x))
    ends = []
    for seed in (0, 1):  # there is nothing random in it
        method = MCDropout(rate=0.0)
        state = method.init(model, gen())
        report = fit(method, state, target, gen(seed), steps=60)
        ends.append(state["params"])
        value = float(target.potential(state["params"], state["points"]).mean() / 40)
        assert value == pytest.approx(report.potential, abs=0.05)
    assert torch.equal(*ends)


def test_training_sees_a_fresh_mask_for_each_row_and_step(model):
    x = torch.randn(40, IN, generator=gen(2))
    ends = []
    for seed in (0, 0, 1):
        method = MCDropout(rate=0.2)
        state = method.init(model, gen())
        fit(method, state, Target(model, x, torch.sin(x)), gen(seed), steps=20)
        ends.append(state["params"])
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_uncertainty_is_larger_where_there_are_no_data():
    model = BayesianModel(StackedNetwork(mlp(1, 1, (40,))), Gaussian(), FanInNormal(), 1)
    x = torch.linspace(-1, 1, 40).unsqueeze(1)
    method = MCDropout(rate=0.1)
    state = method.init(model, gen())
    fit(method, state, Target(model, x, torch.sin(3 * x)), gen(), steps=600)
    spread = method.draw(model, state, 100, gen(1))(torch.tensor([[0.0], [4.0]])).std(0)
    assert spread[1] > spread[0]


def test_one_function_for_each_particle():
    assert MCDropout().natural_draws(160) == 160
    assert MCDropout().steps(warm=True) < MCDropout().steps(warm=False)


def test_what_cannot_be_dropped_from_is_refused(model):
    odd = BayesianModel(StackedNetwork(nn.Linear(2, 2)), Gaussian(), FanInNormal(), 2)
    with pytest.raises(UserError, match="plain stack"):
        MCDropout().check(odd)
    with pytest.raises(UserError, match="draw size 0"):
        MCDropout().draw(model, MCDropout().init(model, gen()), 0, gen())
