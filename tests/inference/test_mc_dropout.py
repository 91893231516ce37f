"""Monte Carlo dropout: one mask is one function."""

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, FanInNormal, Gaussian, MCDropout, StackedNetwork, Target, fit, mlp
from dynapilco.inference.dropout import bernoulli_masks, find_sites

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
    with pytest.raises(UserError, match="no hidden unit to drop among the parameters weight, bias"):
        MCDropout().check(odd)
    MCDropout(drop_inputs=True).check(odd)
    with pytest.raises(UserError, match="draw size 0"):
        MCDropout().draw(model, MCDropout().init(model, gen()), 0, gen())


# --- Any module -------------------------------------------------------------------------------------------


def conv_model(exclude=(), dtype=torch.float64):
    net = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Conv1d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, OUT))
    return BayesianModel(StackedNetwork(net.to(dtype), exclude=exclude), Gaussian(), FanInNormal(), OUT)


def conv_target(model, rows=8, sets=None):
    lead = (rows,) if sets is None else (sets, rows)
    x = torch.randn(*lead, 2, 4, generator=gen(2), dtype=torch.float64)
    return Target(model, x, torch.randn(*lead, OUT, generator=gen(3), dtype=torch.float64))


def check_loss_of_modules(method, sets=None):
    """U is a mean over the masks of a step, each shared by the rows of its member's data."""
    model = conv_model()
    target, state = conv_target(model, sets=sets), method.init(model, gen(1), sets or 1)
    sites, members = find_sites(model.network, inputs=method.drop_inputs), method.members * (sets or 1)
    lead = (members, method.samples)
    masks = bernoulli_masks([method.rate] * len(sites.sites), sites.widths, lead, state["params"], gen(9))
    wanted = -target.all.log_prior(state["params"], state["points"])
    for s in range(members):
        own = (
            target
            if sets is None
            else Target(model, target.all.x[s // method.members], target.all.y[s // method.members])
        )
        for k in range(method.samples):
            theta = sites.scale(state["params"][s : s + 1], tuple(m[s, k : k + 1] for m in masks))
            f = model.network.shared(theta, own.all.x)
            wanted[s] -= own.all.log_likelihood(f, state["points"][s : s + 1])[0] / method.samples
    torch.testing.assert_close(method.loss(state, target.all, gen(9)), wanted, rtol=1e-12, atol=1e-10)


def test_modules_share_masks_over_the_rows_of_a_step():
    check_loss_of_modules(MCDropout(rate=0.4, samples=3, members=2))
    check_loss_of_modules(MCDropout(rate=0.4, samples=2, members=2), sets=3)
    check_loss_of_modules(MCDropout(rate=0.4, samples=2, drop_inputs=True))


def test_masks_that_are_not_scaled_up_are_noticed(monkeypatch):
    def broken(rates, *others):
        return tuple(m * (1 - r) for m, r in zip(bernoulli_masks(rates, *others), rates, strict=True))

    monkeypatch.setattr("dynapilco.inference.methods.mc_dropout.bernoulli_masks", broken)
    with pytest.raises(AssertionError):
        check_loss_of_modules(MCDropout(rate=0.4))


@pytest.mark.parametrize("members", [1, 2])
def test_draws_of_modules_are_masked_weights(members):
    model, method = conv_model(), MCDropout(rate=0.5, members=members)
    state = method.init(model, gen())
    draw = method.draw(model, state, 6, gen(1))
    ratio = draw.params / state["params"][torch.arange(6) % members]
    places = model.network.layout.slices()
    for name, place in places.items():
        allowed = {0.0, 2.0} if name in method.dropped(model) else {1.0}
        assert set(ratio[:, place].round(decimals=9).unique().tolist()) == allowed
    assert method.dropped(model) == ("2.weight", "5.weight")
    columns = ratio[:, places["2.weight"]].view(6, 4, 3, 2)
    assert torch.equal(columns, columns[:, :1, :, :1].expand_as(columns))  # whole channels


def test_functions_of_a_dense_stack_with_members_are_spread_over_them(model):
    method = MCDropout(rate=0.3, members=2)
    state = method.init(model, gen())
    draw = method.draw(model, state, 6, gen(1))
    assert draw.stack.groups == 6 and all(mask is None for mask in draw.stack.masks)
    for s, theta in enumerate(model.network.layout.split(state["params"][torch.arange(6) % 2])["0.weight"]):
        torch.testing.assert_close(draw.stack.weights[0][s], theta.T)
    assert method.natural_draws(160) == 50


def test_folded_and_applied_masks_are_the_same_functions(model):
    """One member's masks over shared weights, and the same masks folded into copies of the weights."""
    method, sites = MCDropout(rate=0.3), find_sites(model.network)
    state, x = method.init(model, gen()), torch.randn(B, IN, generator=gen(2))
    draw = method.draw(model, state, 5, gen(1))
    folded = model.functions(sites.scale(state["params"], draw.stack.masks), state["points"].expand(5, -1))
    torch.testing.assert_close(draw(x), folded(x), atol=1e-5, rtol=1e-5)


def test_inputs_are_dropped_on_demand(model):
    method = MCDropout(rate=0.5, drop_inputs=True)
    state, x = method.init(model, gen()), torch.randn(B, IN, generator=gen(2))
    assert "0.weight" in method.dropped(model)
    draw = method.draw(model, state, 400, gen(1))
    lost = (draw.stack.weights[0] == 0).all(-1)  # (400, IN): both inputs of a function may be gone
    assert lost.float().mean().item() == pytest.approx(0.5, abs=0.08)
    fit(method, state, Target(model, x, torch.sin(x)), gen(), steps=3)


def test_excluded_weights_are_not_dropped():
    net = mlp(IN, OUT, (20, 30))
    model = BayesianModel(StackedNetwork(net, exclude=["2.weight"]), Gaussian(), FanInNormal(), OUT)
    method, x = MCDropout(rate=0.3), torch.randn(B, IN, generator=gen(2))
    state = method.init(model, gen())
    fit(method, state, Target(model, x, torch.sin(x)), gen(), steps=3)
    assert method.draw(model, state, 5, gen(1)).stack.masks[0] is None
    assert MCDropout().dropped(conv_model(exclude=["2.*"])) == ("5.weight",)


def test_modules_start_at_their_own_weights_and_reproduce():
    model, ends = conv_model(), []
    for seed in (0, 0, 1):
        method = MCDropout(rate=0.2, batch_size=3, samples=2)
        state = method.init(model, gen())
        torch.testing.assert_close(state["params"][0], model.network.own_parameters())
        fit(method, state, conv_target(model), gen(seed), steps=8)
        ends.append(state["params"])
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_data_sets_of_their_own_run_side_by_side(model):
    """With rate 0 nothing is random: R data sets at once are R fits."""
    x = torch.randn(2, 20, IN, generator=gen(2))
    method = MCDropout(rate=0.0)
    both = method.init(model, gen(), 2)
    starts = {name: tensor.clone() for name, tensor in both.items()}
    fit(method, both, Target(model, x, torch.sin(x)), gen(), steps=5)
    for r in range(2):
        one = {name: tensor[r : r + 1].clone() for name, tensor in starts.items()}
        fit(method, one, Target(model, x[r], torch.sin(x[r])), gen(), steps=5)
        torch.testing.assert_close(both["params"][r], one["params"][0], atol=1e-5, rtol=1e-5)
