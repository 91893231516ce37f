"""What every Markov-chain method must do, as functions for the tests of each."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, FanInNormal, Fit, Gaussian, NormalPrior, StackedNetwork, Target, fit, mlp
from dynapilco.inference.chains import chain_functions
from dynapilco.inference.method import replica
from tests.inference.harness import gen, rand

N = 40


class Tied(nn.Module):
    """One layer used twice, a weight shared by two layers, a convolution and a normalisation."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Linear(4, 4)
        self.twin = nn.Linear(4, 4)
        self.twin.weight = self.mix.weight
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        h = self.norm(self.conv(x.unsqueeze(-2)).transpose(-1, -2))
        h = torch.tanh(self.mix(torch.tanh(self.mix(h))) + self.twin(h))
        return self.head(h.mean(-2))


def curve(n=N, dtype=torch.float64, seed=1):
    x = rand(n, 2, seed=seed)
    return x.to(dtype), (torch.sin(2 * x[:, :1]) + 0.1 * rand(n, 1, seed=seed + 1)).to(dtype)


def small_model(dtype=torch.float64, **options):
    return BayesianModel(StackedNetwork(mlp(2, 1, (8,)).to(dtype), **options), Gaussian(), FanInNormal(), 1)


def check_fits_any_module(method):
    """A tied, convolutional network that is no stack: it fits, and draws are fixed functions."""
    model = BayesianModel(StackedNetwork(Tied().double()), Gaussian(), FanInNormal(), 1)
    x, y = rand(N, 5, seed=1), rand(N, 1, seed=2)
    state = method.init(model, gen())
    report = fit(method, state, Target(model, x, y), gen(), steps=30)
    assert not report.diverged
    draw = method.draw(model, state, 6, gen())
    assert torch.equal(draw(x), draw(x)) and draw(x).shape == (6, N, 1) and draw(x).std(0).min() > 0


def check_excluded_weights_move_in_the_search_alone(method):
    model = small_model(exclude=["2.*"])
    state = method.init(model, gen())
    run = Fit(method, state, Target(model, *curve()), gen(), 40)
    search = method.plan(state, 40).search
    assert 0 < search < 40
    k = model.noise_size
    start = state["points"].clone()
    run.advance(search)
    found = state["points"].clone()
    assert (found[:, k:] != start[:, k:]).all()
    run.advance(40 - search)
    assert torch.equal(state["points"][:, k:], found[:, k:])
    assert not torch.equal(state["points"][:, :k], found[:, :k])  # noise parameters are sampled
    assert torch.equal(state["sample_points"][:, 0, k:], found[:, k:])


def check_warm_start(method):
    """Samples of older data go, chains go on from where they stand, the search is shorter."""
    model, method = small_model(torch.float32), replace(method, learning_rate=0.05)
    state = method.init(model, gen())
    x, y = curve(60, torch.float32)
    fit(method, state, Target(model, x[:30], y[:30]), gen(), steps=200)
    before, kept = state["params"].clone(), int(state["kept"])
    cold_search = method.plan(state, 150).search
    assert kept == method.keep
    run = Fit(method, state, Target(model, x, y), gen(1), 150)
    assert int(state["kept"]) == 0 and not state["samples"].any()
    assert torch.equal(state["params"], before)
    assert method.plan(state, 150).search < cold_search
    run.advance(150)
    assert int(state["kept"]) == method.keep and not run.diverged
    draw = method.draw(model, state, 16, gen())
    assert (draw(x).mean(0) - y).square().mean().sqrt() < 0.5 * y.std()


def check_reproducible_and_resumable(method):
    """The same generator gives the same bits; so does a fit that is advanced in pieces from a copied state."""
    model, results = small_model(), []
    target = Target(model, *curve())
    for pieces in ([40], [11, 20, 9]):
        state, generator = method.init(model, gen(3)), gen(4)
        run = Fit(method, state, target, generator, 40)
        for piece in pieces:
            run.advance(piece)
            for name in list(state):  # as a checkpoint would
                state[name] = state[name].clone()
        results.append({name: tensor.clone() for name, tensor in state.items()})
    for other in results[1:]:
        assert results[0].keys() == other.keys()
        assert all(torch.equal(results[0][name], other[name]) for name in other)


def check_members_are_separate(method, monkeypatch, modules, own_data):
    """A batch of chains is the same as separate runs, when each chain is given the noise of its own."""
    method, noise = replace(method, start="map"), {}  # the randomised search draws its errors for all chains at once

    def shared(position, generator):
        """Noise of chain s depends on s and on how often it was asked for: ``noise["first"]`` is the first chain."""
        noise["calls"] = noise.get("calls", 0) + 1
        rows = [rand(position.shape[1], seed=97 * noise["calls"] + 7 * s) for s in range(8)]
        return torch.stack(rows)[noise["first"] : noise["first"] + position.shape[0]]

    for module in modules:
        monkeypatch.setattr(module, "normal_like", shared)
    model = small_model()
    state = method.init(model, gen())
    size = state["params"].shape[0]
    singles = [{k: v.clone() for k, v in replica(state, s, size).items()} for s in range(size)]
    x, y = curve()
    if own_data:
        x, y = torch.stack([x, 2 * x, x + 1]), torch.stack([y, y - 1, -y])
    noise.update(first=0, calls=0)
    fit(method, state, Target(model, x, y), gen(5), steps=30)
    for s, single in enumerate(singles):
        noise.update(first=s, calls=0)
        data = (x[s], y[s]) if own_data else (x, y)
        fit(method, single, Target(model, *data), gen(5), steps=30)
        for name in ("params", "points", "samples"):
            torch.testing.assert_close(replica(state, s, size)[name], single[name], atol=1e-6, rtol=1e-6)


def check_draws(method):
    """Every stored sample once, each with its own noise, not aliasing the state; the chain can be told."""
    model = small_model(torch.float32)
    state = method.init(model, gen())
    x, y = curve(dtype=torch.float32)
    before = method.draw(model, state, 3, gen())(x)  # before any sample: where the chains stand
    fit(method, state, Target(model, x, y), gen(), steps=80)
    chains, kept = state["samples"].shape[:2]
    assert int(state["kept"]) == kept == method.keep and before.shape == (3, N, 1)
    functions = chain_functions(model, state, x)
    assert functions.shape == (chains, kept, N, 1)
    draw = method.draw(model, state, chains * kept, gen())
    values = draw(x)
    gaps = (values.unsqueeze(0) - functions.flatten(0, 1).unsqueeze(1)).abs().amax((-1, -2))
    assert ((gaps < 1e-6).sum(0) >= 1).all() and ((gaps < 1e-6).sum(1) >= 1).all()
    scales = model.likelihood.constrain(state["sample_points"].flatten(0, 1))
    torch.testing.assert_close(draw.scale, scales)
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.fill_(7.0)
    assert torch.equal(draw(x), values)
    assert method.natural_draws(10**6) == min(50, method.members * method.keep)
    assert method.natural_draws(2) == 2


def check_other_models(method):
    """A prior that is not Gaussian, a fixed noise, a start at the mode."""
    x, y = curve()
    for model in (
        BayesianModel(StackedNetwork(mlp(2, 1, (8,)).double()), Gaussian(fixed=0.1), NormalPrior(), 1),
        BayesianModel(StackedNetwork(mlp(2, 1, (8,)).double()), Gaussian(), Logistic(), 1),
    ):
        state = method.init(model, gen())
        assert ("anchors" in state) == model.prior.gaussian
        assert not fit(method, state, Target(model, x, y), gen(), steps=40).diverged
        assert int(state["kept"]) > 0


class Logistic(NormalPrior):
    """A logistic prior: heavier tails than a normal one."""

    gaussian = False

    def log_prob(self, params, layout):
        return (-params - 2 * torch.nn.functional.softplus(-params)).sum(-1)


def check_bad_options(cls, cases):
    common = [
        ({"members": 0}, "members"), ({"keep": 0}, "keep"), ({"burn_in": 1.0}, "burn_in"), ({"search": -0.1}, "search"),
        ({"start": "prior"}, "start"), ({"learning_rate": 0.0}, "learning_rate"), ({"temperature": 0.0}, "temperature"),
    ]  # fmt: skip
    for options, name in [*common, *cases]:
        with pytest.raises(UserError, match=name):
            cls(**options)
