"""What the tests of IVON, Vadam and bSAM share."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, FanInNormal, Gaussian, StackedNetwork, Target, fit, mlp
from dynapilco.inference.method import Clock, replica
from dynapilco.inference.natural import NaturalMethod
from dynapilco.inference.random import global_generator_from
from tests.inference.harness import conjugate, gen, rand


@pytest.fixture(autouse=True)
def fixed_initial_weights():
    """Modules draw their weights from the global generator: it is set for the test, and put back."""
    with global_generator_from(gen()):
        yield


class Tied(nn.Module):
    """Not a plain stack: convolution, normalisation, and a matrix that is used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3, padding=1)
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        h = self.norm(self.conv(x.unsqueeze(-2)).flatten(-2))
        return self.head(torch.tanh(self.mix(torch.tanh(self.mix(h)))))


def exact_gradient(problem, theta, rows=slice(None)):
    """Gradients in theta (n,) of the negative log-likelihood of some rows of a conjugate problem: mean, and of each."""
    x, y = problem.target.all.x[rows], problem.target.all.y[rows]
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    each = (design @ theta - y[:, 0]).unsqueeze(1) * design / problem.model.likelihood.fixed**2
    return each.mean(0), each


def warm_state(method, problem, updates=7, seed=5):
    """A begun state with a curvature and a momentum of its own, after so many updates of the curvature."""
    state = method.init(problem.model, gen(1))
    method.begin(state, problem.target, gen(2))
    state["curvature"] = rand(*state["params"].shape, seed=seed).abs() + 0.5
    state["momentum"] = rand(*state["params"].shape, seed=seed + 1)
    state["curvature_updates"] += updates
    return state


def field_error(method, problem, steps=None, seed=0):
    """sd / sd of the mean-field optimum, (n,), in the mean square of members; greatest error of their mean in sds."""
    state = problem.fitted(method, steps, seed)
    best = problem.precision.diagonal().rsqrt()
    ratio = method.std(state).square().mean(0).sqrt() / best
    return ratio, ((state["params"].mean(0) - problem.mean).abs() / best).max()


def check_mean_field(method, rows=2000, steps=None):
    """sd within 10 % of 1 / sqrt(diag A), mean within 0.2 sd."""
    ratio, error = field_error(method, conjugate(rows=rows), steps)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=0.1, rtol=0)
    assert error < 0.2


def check_temperature(method, steps=500):
    """At temperature T the spread is sqrt T times as wide: 10 %."""
    cold = field_error(replace(method, temperature=0.25), conjugate(temperature=0.25), steps)[0]
    warm = field_error(method, conjugate(), steps)[0]
    torch.testing.assert_close(cold.mean(), 0.5 * warm.mean(), rtol=0.1, atol=0)


def check_members(method, monkeypatch):
    """Three members, also with data of their own, are three separate fits: 1e-6 in float64."""
    monkeypatch.setattr(NaturalMethod, "noise", lambda self, state, generator: state["noise"])
    model = BayesianModel(StackedNetwork(mlp(2, 1, (6,)).double()), Gaussian(), FanInNormal(), 1)
    x, y = rand(3, 20, 2), rand(3, 20, 1, seed=1)
    for data in ((x, y), (x[0], y[0])):
        state = replace(method, members=3).init(model, gen())
        state["noise"] = rand(3, method.samples, state["params"].shape[1], seed=3)
        alone = [{k: v.clone() for k, v in replica(state, s, 3).items()} for s in range(3)]
        fit(method, state, Target(model, *data), gen(), steps=12)
        for s, single in enumerate(alone):
            own = data if data[1].dim() == 2 else (data[0][s], data[1][s])
            fit(method, single, Target(model, *own), gen(), steps=12)
            for name in ("params", "points", "curvature"):
                torch.testing.assert_close(replica(state, s, 3)[name], single[name], atol=1e-6, rtol=0)


def check_any_module(method, prior=None):
    """A module that is no plain stack, in minibatches, with an excluded layer: learns, excludes, is reproducible."""
    net = Tied()
    before = copy.deepcopy(net.state_dict())
    prior = FanInNormal() if prior is None else prior
    model = BayesianModel(StackedNetwork(net, exclude=["norm.*"]), Gaussian(), prior, 1)
    x = rand(24, 4, dtype=torch.float32)
    target, ends = Target(model, x, x[:, :1]), []
    for seed in (0, 0, 1):
        state = replace(method, batch_size=8, members=2).init(model, gen())
        excluded = model.split_points(state["points"])[1].clone()
        report = fit(replace(method, batch_size=8), state, target, gen(seed), steps=12)
        assert not report.diverged
        assert state["params"].dtype == torch.float32
        ends.append(state["params"].clone())
        assert not torch.equal(model.split_points(state["points"])[1], excluded)
        draw = method.draw(model, state, 5, gen(3))
        outputs = draw(x)
        assert outputs.shape == (5, 24, 1)
        assert outputs.std(0).min() > 0
        state["params"].add_(1.0)
        assert torch.equal(draw(x), outputs)  # a draw does not follow the state
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def check_grown_data(method):
    """A warm fit on four times the data goes on from the mean and halves the spread."""
    small, large = conjugate(rows=100), conjugate(rows=400)
    state = small.fitted(method, 400)
    first, mean = method.std(state).clone(), state["params"].clone()
    method.begin(state, large.target, gen())
    assert torch.equal(state["params"], mean)
    assert state["momentum"].abs().max() == 0
    fit(method, state, large.target, gen(1), steps=400)
    torch.testing.assert_close(method.std(state).mean(), 0.5 * first.mean(), rtol=0.15, atol=0)


def check_options(cls, bad):
    """Bad hyper-parameters are refused, and the message names them."""
    bad = {"learning_rate": 0.0, "point_rate": -1.0, "samples": 0, "beta1": 1.0, "beta2": -0.1, "warm_up": 0.6, **bad}
    for name, value in bad.items():
        with pytest.raises(UserError, match=f"{name}="):
            cls(**{name: value})
    assert cls().natural_draws(500) == 50
    assert cls().natural_draws(7) == 7


def check_noise_and_spread(method):
    """A curve with little noise: fitted, the noise not blown up, with a spread that did not collapse."""
    x = torch.linspace(-2, 2, 60).unsqueeze(1)
    y = torch.sin(2 * x) + 0.02 * torch.randn(60, 1, generator=gen(2))
    model = BayesianModel(StackedNetwork(mlp(1, 1, (20,))), Gaussian(), FanInNormal(), 1)
    state = method.init(model, gen())
    assert method.std(state).allclose(model.prior.std(model.network.layout))  # before data
    fit(method, state, Target(model, x, y), gen(1), steps=1200)
    draw = method.draw(model, state, 50, gen(2))
    f = draw(x)
    assert (f.mean(0) - torch.sin(2 * x)).square().mean().sqrt() < 0.12
    assert 0.003 < f.std(0).mean() < 0.2
    assert draw.scale.mean() < 0.15


CLOCK = Clock(40, 100)
