"""Concrete dropout: the objective, the learned rates, and draws with hard masks."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import (
    METHODS,
    BayesianModel,
    Clock,
    FanInNormal,
    Gaussian,
    NormalPrior,
    Prior,
    StackedNetwork,
    Target,
    fit,
    make_method,
    mlp,
)
from dynapilco.inference.dropout import concrete_masks, find_sites
from dynapilco.inference.examples import EXAMPLES
from dynapilco.inference.method import replica
from dynapilco.inference.random import global_generator_from
from tests.inference.harness import conjugate, gen, rand

ConcreteDropout = METHODS["concrete_dropout"]
F64 = {"rtol": 1e-12, "atol": 1e-10}


def small(prior=None, hidden=(5, 4), exclude=(), dtype=torch.float64):
    with global_generator_from(gen(2)):
        net = mlp(3, 2, hidden).to(dtype)
    return BayesianModel(StackedNetwork(net, exclude=exclude), Gaussian(), prior or FanInNormal(), 2)


def problem(model, rows=10, sets=None):
    lead = (rows,) if sets is None else (sets, rows)
    return Target(model, rand(*lead, 3, seed=1), rand(*lead, 2, seed=2))


def ready(method, model, replicas=1):
    """A state with rates that differ from site to site and from member to member."""
    state = method.init(model, gen(), replicas)
    state["rate_logits"] += rand(*state["rate_logits"].shape, seed=3)
    return state


def by_hand(method, model, state, target, seed, index=None):
    """F, written out: a loop over members, layer by layer, with the masks of the same generator."""
    batch = target.batch(index)
    members, rows = state["params"].shape[0], batch.rows
    logits = torch.logit(method.lowest_rate + (1 - method.lowest_rate) * state["rate_logits"].sigmoid())
    sites = find_sites(model.network)
    parts = [logits[:, i].view(-1, 1, 1) for i in range(len(sites.sites))]
    masks = concrete_masks(parts, sites.widths, (members, rows), gen(seed), method.relaxation)
    std, values = model.prior.std(model.network.layout).double(), []
    keep = dict(zip(sites.names, (1 - logits.sigmoid()).unbind(-1), strict=True))
    for s in range(members):
        x, y = (t if batch.row_axis == 0 else t[s * t.shape[0] // members] for t in (batch.x, batch.y))
        named = {k: v[s] for k, v in model.network.layout.split(state["params"]).items()}
        h = x
        for i, mask in enumerate(masks):
            h = torch.tanh(h @ named[f"{2 * i}.weight"].T + named[f"{2 * i}.bias"]) * mask[s]
        f = h @ named["4.weight"].T + named["4.bias"]
        sigma = 0.005 + torch.nn.functional.softplus(state["points"][s])
        fit = torch.distributions.Normal(f, sigma).log_prob(y).sum() * target.rows / rows
        penalty = torch.zeros((), dtype=torch.float64)
        for name, place in model.network.layout.slices().items():
            share = keep[name][s] if name in keep else torch.ones((), dtype=torch.float64)
            penalty += torch.distributions.Normal(0.0, std[place] * share.sqrt()).log_prob(named[name].flatten()).sum()
            penalty += share.sqrt().log() * named[name].numel()  # the normaliser stays that of the prior
        bits = torch.zeros((), dtype=torch.float64)
        for width, logit in zip(sites.widths, logits[s], strict=True):
            bits += width * torch.distributions.Bernoulli(logits=logit).entropy()
        noise = model.likelihood.log_prior(state["points"])[s]
        values.append(method.temperature * (-penalty - bits) - fit - noise)
    return torch.stack(values)


def check_loss(method, seed=7, index=None, sets=None):
    model = small()
    target = problem(model, sets=sets)
    target = Target(model, target.all.x, target.all.y, temperature=method.temperature)
    state = ready(method, model, sets or 1)
    got = method.loss(state, target.batch(index), gen(seed))
    torch.testing.assert_close(got, by_hand(method, model, state, target, seed, index), **F64)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.3}, {"members": 3, "relaxation": 0.5, "lowest_rate": 0.0}], ids=str
)
def test_the_loss_is_the_papers(options):
    check_loss(ConcreteDropout(**options))
    check_loss(ConcreteDropout(**options), index=torch.tensor([0, 4, 7]))


def test_data_sets_of_their_own():
    check_loss(ConcreteDropout(members=2), sets=3)


BROKEN = {
    "entropy per layer": (
        "entropy",
        lambda sites, logits: torch.distributions.Bernoulli(logits=logits).entropy().sum(-1),
    ),
    "entropy over N": ("entropy", lambda sites, logits: 0 * logits.sum(-1)),
    "penalty not divided": (
        "cross_entropy",
        lambda prior, layout, sites, params, rates: -prior.log_prob(params, layout),
    ),
    "masks not divided": (
        "concrete_masks",
        lambda logits, *a: tuple(
            m * (1 - z.sigmoid()) for m, z in zip(concrete_masks(logits, *a), logits, strict=True)
        ),
    ),
}


@pytest.mark.parametrize("factor", BROKEN)
def test_a_broken_factor_is_noticed(factor, monkeypatch):
    name, function = BROKEN[factor]
    monkeypatch.setattr(f"dynapilco.inference.methods.concrete_dropout.{name}", function)
    with pytest.raises(AssertionError):
        check_loss(ConcreteDropout())


def test_gradient_of_the_rates_against_finite_differences():
    for model in (small(), general()):
        method = ConcreteDropout(samples=2)
        state, target = ready(method, model), problem_of(model)
        leaf = state["rate_logits"].clone().requires_grad_()
        (slope,) = torch.autograd.grad(method.loss({**state, "rate_logits": leaf}, target.all, gen(4)).sum(), leaf)
        for site in range(leaf.shape[1]):
            ends = []
            for step in (1e-6, -1e-6):
                moved = state["rate_logits"].clone()
                moved[:, site] += step
                ends.append(method.loss({**state, "rate_logits": moved}, target.all, gen(4)))
            assert float(slope[0, site]) == pytest.approx(float((ends[0] - ends[1]) / 2e-6), rel=1e-5, abs=1e-5)


def general(dtype=torch.float64):
    with global_generator_from(gen(2)):
        net = nn.Sequential(nn.Conv1d(1, 3, 2), nn.Tanh(), nn.Conv1d(3, 2, 2), nn.Flatten(), nn.Linear(2, 2)).to(dtype)
    return BayesianModel(StackedNetwork(net), Gaussian(), FanInNormal(), 2)


def problem_of(model, rows=10):
    if model.network.dense_plan is not None:
        return problem(model, rows)
    return Target(model, rand(rows, 1, 3, seed=1), rand(rows, 2, seed=2))


def test_general_modules_share_masks_over_the_rows():
    model, method = general(), ConcreteDropout(samples=3, members=2)
    state, target, sites = ready(method, model), problem_of(model), find_sites(model.network)
    parts = [method.logits(state)[:, i].view(-1, 1, 1) for i in range(2)]
    masks = concrete_masks(parts, sites.widths, (2, 3), gen(9), 0.1)
    fit = torch.zeros(2, dtype=torch.float64)
    for s in range(2):
        for k in range(3):
            theta = sites.scale(state["params"][s : s + 1], tuple(m[s, k : k + 1] for m in masks))
            fit[s] += (
                target.all.log_likelihood(model.network.shared(theta, target.all.x), state["points"][s : s + 1])[0] / 3
            )
    rest = method.penalty(model, state) - model.likelihood.log_prior(state["points"])
    torch.testing.assert_close(method.loss(state, target.all, gen(9)), rest - fit, **F64)


# --- What is learned --------------------------------------------------------------------------------------


def best_rate(known, rows):
    """The rate that minimises F exactly, for dropped inputs of a linear model (weights by a linear system)."""
    x, y, prior, sigma = known.target.all.x, known.target.all.y[:, 0], 1.0, known.model.likelihood.fixed
    design = torch.cat([x, torch.ones(rows, 1, dtype=x.dtype)], 1)
    inputs = x.shape[1]
    grid = torch.linspace(0.002, 0.6, 600, dtype=torch.float64)
    scores = []
    for p in grid:
        ridge = torch.full((inputs + 1,), 1 / prior**2, dtype=torch.float64)
        ridge[:inputs] = 1 / (prior**2 * (1 - p)) + p / (1 - p) * x.square().sum(0) / sigma**2
        matrix = design.T @ design / sigma**2 + torch.diag(ridge)
        right = design.T @ y / sigma**2
        value = -0.5 * right @ torch.linalg.solve(matrix, right)
        scores.append(value + inputs * (p * p.log() + (1 - p) * (1 - p).log()))
    return float(grid[int(torch.stack(scores).argmin())])


@pytest.mark.parametrize("rows", [4, 6, 8, 10])
def test_the_learned_rate_of_a_linear_model_is_the_exact_optimum(rows):
    """Seen: within 0.009 of the optimum, standard error over the 16 members 0.004 at most, relaxation at 0.1."""
    known = conjugate(rows=rows, sigma=1.0)
    method = ConcreteDropout(drop_inputs=True, initial_rate=0.1, learning_rate=0.03, members=16)
    rate = float(known.fitted(method, steps=400)["rate_logits"].sigmoid().mean())
    assert rate == pytest.approx(best_rate(known, rows), abs=0.02)


def test_rates_fall_with_the_number_of_rows_and_rise_to_a_half_without_information():
    method, found = ConcreteDropout(drop_inputs=True, initial_rate=0.1, learning_rate=0.1, lowest_rate=0.0), []
    for rows in (4, 64):
        known = conjugate(rows=rows, sigma=1.0)
        found.append(float(known.fitted(method, 300)["rate_logits"].sigmoid().mean()))
    assert found[1] < 0.03 < 0.3 < found[0]
    blind = conjugate(rows=4, sigma=100.0)
    rate = blind.fitted(ConcreteDropout(drop_inputs=True, initial_rate=0.1, learning_rate=0.05), 400)[
        "rate_logits"
    ].sigmoid()
    assert float(rate.mean()) == pytest.approx(0.5, abs=0.02)


def test_rates_start_where_they_are_told_to_and_stay_above_the_lowest():
    for method in (ConcreteDropout(), ConcreteDropout(lowest_rate=0.0), ConcreteDropout(initial_rate=0.9)):
        state = method.init(small(), gen())
        assert list(method.metrics(state).values()) == pytest.approx([method.initial_rate] * 2)
        state["rate_logits"].fill_(-300.0)
        assert list(method.metrics(state).values()) == pytest.approx([method.lowest_rate] * 2, abs=1e-12)


# --- Draws ------------------------------------------------------------------------------------------------


def test_draws_have_hard_masks_at_the_learned_rates():
    method, model = ConcreteDropout(), small()
    state = ready(method, model)
    draw = method.draw(model, state, 4000, gen(1))
    for mask, rate in zip(draw.stack.masks, method.rates(state, method.sites(model)), strict=True):
        assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - float(rate))])
        assert float((mask == 0).double().mean()) == pytest.approx(float(rate), abs=0.01)


def test_the_mean_of_draws_is_the_network_itself_where_masks_enter_linearly():
    method, model = ConcreteDropout(initial_rate=0.3), small(hidden=(6,))
    state, x = method.init(model, gen()), rand(5, 3, seed=8)
    f = method.draw(model, state, 6000, gen(1))(x)
    error = (f.mean(0) - model.network.shared(state["params"], x)[0]) / (f.std(0) / 6000**0.5)
    assert error.abs().max() < 4.5  # of 10 normal numbers


def test_members_are_spread_with_their_own_rates():
    method, model = ConcreteDropout(members=2, lowest_rate=0.0), small()
    state = method.init(model, gen())
    state["rate_logits"][0], state["rate_logits"][1] = -30.0, 1.0
    x = rand(5, 3, seed=8)
    f = method.draw(model, state, 6, gen(1))(x)
    sure = model.network.shared(state["params"], x)[0]
    same = [(f[i] - sure).abs().max() < 1e-6 for i in range(6)]
    assert same == [True, False] * 3
    assert method.natural_draws(160) == 50 and ConcreteDropout().natural_draws(160) == 160


# --- As a method ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small, general])
def test_fits_reproduce_go_on_and_report_their_rates(make):
    model, ends = make(), []
    target, grown = problem_of(model), problem_of(model, 15)
    for seed in (0, 0, 1):
        method = ConcreteDropout(batch_size=4, samples=2, lowest_rate=0.0)
        state = method.init(model, gen())
        fit(method, state, target, gen(seed), steps=20)
        warm = state["rate_logits"].clone()
        fit(method, state, grown, gen(seed), steps=1)
        assert float((state["rate_logits"] - warm).abs().max()) < 0.1  # goes on from there
        ends.append(state["rate_logits"])
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert method.metrics(state) == {
        f"rate_{i}": pytest.approx(float(r)) for i, r in enumerate(state["rate_logits"][0].sigmoid())
    }


def test_a_replica_can_be_drawn_from():
    model, method = small(), ConcreteDropout(members=2)
    state = method.init(model, gen(), 3)
    fit(method, state, problem(model, sets=3), gen(), steps=3)
    assert method.draw(model, replica(state, 1, 3), 4, gen())(rand(5, 3)).shape == (4, 5, 2)


def test_excluded_weights_are_neither_dropped_nor_penalised():
    model, method = small(exclude=["2.weight"]), ConcreteDropout()
    state = ready(method, model)
    assert method.dropped(model) == ("4.weight",)
    draw = method.draw(model, state, 50, gen())
    assert draw.stack.masks[0] is None and draw.stack.masks[1].shape == (50, 4)
    moved = {**state, "points": state["points"] + 1}
    torch.testing.assert_close(method.penalty(model, moved), method.penalty(model, state))
    fit(method, state, problem(model), gen(), steps=3)


class Spike(NormalPrior):
    gaussian = False

    def log_prob(self, params, layout):
        return super().log_prob(params, layout) - params.abs().log().sum(-1)


def test_bad_options_and_priors_are_refused():
    for options, words in (
        ({"initial_rate": 0.01}, r"initial_rate=0.01: expected a number in \(0.01, 1\)"),
        ({"lowest_rate": 1.0}, "lowest_rate=1.0"),
        ({"relaxation": 0.0}, "relaxation=0.0"),
        ({"samples": 0}, "samples=0"),
        ({"rate": 0.1}, "no option 'rate'"),
    ):
        with pytest.raises(UserError, match=words):
            make_method("concrete_dropout", options)
    spike: Prior = Spike()
    with pytest.raises(UserError, match="density of the prior Spike at 0"):
        ConcreteDropout().check(replace(small(), prior=spike))
    with pytest.raises(UserError, match="no hidden unit to drop"):
        ConcreteDropout().check(conjugate().model)


def test_a_step_is_adam_on_the_gradient_of_the_loss_over_n():
    model, method = small(), ConcreteDropout()
    target, state = problem(model), ready(method, model)
    method.begin(state, target, gen())
    leaf = state["rate_logits"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(method.loss({**state, "rate_logits": leaf}, target.all, gen(4)).sum() / 10, leaf)
    method.step(state, target.all, Clock(0, 100), gen(4))
    rate = 0.01 / 50  # the first step of the warm-up
    torch.testing.assert_close(state["rate_logits"], (leaf - rate * slope / (slope.abs() + 1e-8)).detach(), **F64)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["TransformerEncoder", "tied weights", "Embedding"])
def test_other_modules(name):
    example = EXAMPLES[name]
    with global_generator_from(gen(2)):
        model = BayesianModel(StackedNetwork(example.build(1)), Gaussian(), FanInNormal(), 1)
    method, x = ConcreteDropout(samples=2, initial_rate=0.4), example.inputs(8, gen())
    state = method.init(model, gen())
    before = state["rate_logits"].clone()
    fit(method, state, Target(model, x, torch.randn(8, 1, generator=gen(1))), gen(), steps=5)
    assert (state["rate_logits"] != before).all()
    with torch.no_grad():
        f = method.draw(model, state, 4, gen(1))(x)
    assert f.shape == (4, 8, 1) and f.std(0).min() > 0
