"""Anchored ensemble: what it is exactly, and that its members do not mix."""

import pytest
import torch
from torch import nn

from dynapilco.inference import BayesianModel, Ensemble, FanInNormal, Gaussian, StackedNetwork, Target, fit, mlp
from dynapilco.inference.method import replica

IN, OUT, N = 2, 1, 30


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def curve(n=N):
    x = torch.randn(n, IN, generator=gen(1))
    return x, torch.sin(2 * x[:, :1]) + 0.1 * torch.randn(n, 1, generator=gen(2))


@pytest.fixture
def model():
    return BayesianModel(StackedNetwork(mlp(IN, OUT, (8,))), Gaussian(), FanInNormal(), OUT)


def test_members_start_at_their_anchors_and_stay_near_them(model):
    method = Ensemble(members=5, cold_steps=40)
    state = method.init(model, gen())
    assert torch.equal(state["params"], state["anchors"])
    assert state["params"].data_ptr() != state["anchors"].data_ptr()
    anchors = state["anchors"].clone()
    for _ in range(2):  # cold, then warm
        before = state["params"].clone()
        fit(method, state, Target(model, *curve()), gen(), steps=40)
        assert torch.equal(state["anchors"], anchors)
        assert not torch.equal(state["params"], before)
    outputs = method.draw(model, state, 5, gen())(curve()[0])
    assert outputs.std(0).min() > 0


def test_a_warm_start_goes_on_from_where_it_was(model):
    """A second fit begins at the first one's parameters: it is better at once than a cold one."""
    method, target = Ensemble(members=3), Target(model, *curve())
    warm = method.init(model, gen())
    fit(method, warm, target, gen(), steps=300)
    cold = method.init(model, gen())
    reports = [fit(method, state, target, gen(), steps=1) for state in (warm, cold)]
    assert reports[0].potential < reports[1].potential - 0.5
    assert method.steps(warm=True) < method.steps(warm=False)


def test_anchors_come_from_the_prior():
    prior = FanInNormal(1.0, 2.0, output_bias_scale=0.1)
    model = BayesianModel(StackedNetwork(mlp(IN, 3, (8,))), Gaussian(), prior, 3)
    state = Ensemble(members=2000).init(model, gen())
    assert state["anchors"][:, -3:].std().item() == pytest.approx(0.1, rel=0.05)
    assert state["anchors"][:, -6:-3].std().item() == pytest.approx(2 / 8**0.5, rel=0.05)


@pytest.mark.parametrize("own_data", [False, True])
@pytest.mark.parametrize("engine", ["auto", "vmap"])
def test_a_batch_of_members_equals_separate_fits(engine, own_data):
    model = BayesianModel(StackedNetwork(mlp(IN, OUT, (8,)), engine), Gaussian(), FanInNormal(), OUT)
    size, steps = 3, 20
    method = Ensemble(members=size)
    state = method.init(model, gen())
    alone = [{k: v.clone() for k, v in replica(state, s, size).items()} for s in range(size)]
    x, y = curve()
    if own_data:
        x, y = torch.stack([x, 2 * x, x + 1]), torch.stack([y, y - 1, -y])
    fit(method, state, Target(model, x, y), gen(), steps=steps)
    for s, single in enumerate(alone):
        data = (x[s], y[s]) if own_data else (x, y)
        fit(method, single, Target(model, *data), gen(), steps=steps)
        for name in ("params", "points"):
            torch.testing.assert_close(replica(state, s, size)[name], single[name], atol=1e-5, rtol=1e-4)


def test_draws_hand_out_each_member_with_its_own_noise(model):
    method = Ensemble(members=4)
    state = method.init(model, gen())
    state["points"] = torch.randn(4, OUT, generator=gen(3))
    x = curve()[0]
    every = method.draw(model, state, 4, gen())
    torch.testing.assert_close(every(x), model.network.shared(state["params"], x))
    torch.testing.assert_close(every.scale, model.likelihood.constrain(state["points"]))
    some = method.draw(model, state, 2, gen(5))
    for f, scale in zip(some(x), some.scale, strict=True):
        twin = [s for s in range(4) if torch.allclose(every(x)[s], f, atol=1e-6)]
        assert len(twin) == 1
        assert torch.equal(every.scale[twin[0]], scale)
    assert method.draw(model, state, 10, gen()).size == 10
    assert method.natural_draws(160) == 4
    assert method.natural_draws(2) == 2


def test_a_draw_does_not_follow_later_training(model):
    """A draw is fixed, even when the state that it came from goes on being fitted in place."""
    method = Ensemble(members=4)
    state = method.init(model, gen())
    draw, x = method.draw(model, state, 4, gen()), curve()[0]
    before = draw(x)
    fit(method, state, Target(model, *curve()), gen(), steps=5)
    assert torch.equal(draw(x), before)


def test_conjugate_linear_regression():
    """Against the exact posterior of Bayesian linear regression with known noise.

    Exact: member m is the minimiser ``(X'X/s^2 + P)^-1 (X'y/s^2 + P a_m)`` for its anchor a_m, and with anchors from
    the prior the members scatter around the exact posterior mean. *Not* exact: their covariance. With A the posterior
    covariance, P the prior precision, it is ``A P A``, smaller than A, since the targets carry no noise of
    their own (randomised MAP sampling would add noise of variance s^2 to y for each member).
    """
    members, sigma = 600, 0.5
    x = torch.randn(12, 2, generator=gen(1))
    y = x @ torch.tensor([[1.0], [-0.5]]) + 0.3 + sigma * torch.randn(12, 1, generator=gen(2))
    model = BayesianModel(
        StackedNetwork(nn.Sequential(nn.Linear(2, 1))), Gaussian(fixed=sigma), FanInNormal(1.0, 2.0), 1
    )
    method = Ensemble(members=members, learning_rate=0.05)
    state = method.init(model, gen())
    fit(method, state, Target(model, x, y), gen(), steps=800)
    design = torch.cat([x, torch.ones(12, 1)], 1).double()
    precision = torch.diag(model.prior.std(model.network.layout).double() ** -2)
    posterior = torch.linalg.inv(design.T @ design / sigma**2 + precision)
    mean = posterior @ (design.T @ y.double()[:, 0]) / sigma**2
    pulls = state["anchors"].double() @ precision
    exact = mean + pulls @ posterior
    torch.testing.assert_close(state["params"].double(), exact, atol=2e-4, rtol=0)
    covariance = posterior @ precision @ posterior
    error = (state["params"].double().mean(0) - mean).abs() / (covariance.diagonal() / members).sqrt()
    assert error.max() < 4
    found = torch.cov(state["params"].double().T)
    torch.testing.assert_close(found / covariance.diagonal(), covariance / covariance.diagonal(), atol=0.25, rtol=0)
    assert (found.diagonal() < posterior.diagonal()).all()


def test_the_noise_is_learned():
    """sigma goes to the noise in the data, one for each output."""
    model = BayesianModel(StackedNetwork(mlp(1, 2, (16,))), Gaussian(), FanInNormal(), 2)
    x = torch.randn(300, 1, generator=gen(1))
    y = torch.cat([x, -x], 1) + torch.tensor([0.05, 0.5]) * torch.randn(300, 2, generator=gen(2))
    method = Ensemble(members=2)
    state = method.init(model, gen())
    fit(method, state, Target(model, x, y), gen(), steps=1500)
    scale = method.draw(model, state, 2, gen()).scale
    torch.testing.assert_close(scale, torch.tensor([[0.05, 0.5]] * 2), rtol=0.1, atol=0)
