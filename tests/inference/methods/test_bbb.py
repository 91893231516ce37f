"""Bayes by backprop: its fixed points, its update, and its parts."""

import math

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, Gaussian, NormalPrior, StackedNetwork, Target, fit, mlp
from dynapilco.inference.adam import BETAS, adam_begin, cosine_rate
from dynapilco.inference.method import Clock, make_method, replica
from dynapilco.inference.methods.bbb import BayesByBackprop
from dynapilco.inference.posteriors import LowRankNormal, Normal, normal
from dynapilco.inference.target import NOISE_RATE
from tests.inference.harness import conjugate, gen, rand
from tests.inference.posteriors.test_kl import Logistic

STEPS, RATE = 400, 0.03  # the schedule ends at 0: a higher rate makes up for few updates
SAMPLES = {"reparameterised": 8, "local": 4, "flipout": 8}


def check_mean_field(method, problem=None, steps=STEPS):
    """Mean within .2 sd, sd within 10 % of 1 / sqrt(diag A): the minimum of KL(q || posterior) over mean-field q."""
    problem = problem or conjugate()
    state = problem.fitted(method, steps)
    optimum = problem.precision.diag().rsqrt()
    assert ((state["params"][0] - problem.mean).abs() < 0.2 * optimum).all()
    assert ((method.family.std(state)[0] / optimum - 1).abs() < 0.1).all()


@pytest.mark.parametrize("estimator", ["reparameterised", "local", "flipout"])
def test_mean_field_fixed_point(estimator):
    check_mean_field(BayesByBackprop(estimator=estimator, samples=SAMPLES[estimator], learning_rate=RATE))


def test_mean_field_fixed_point_from_minibatches():
    check_mean_field(BayesByBackprop(batch_size=50, estimator="local", learning_rate=RATE))


@pytest.mark.parametrize("wrong", ["entropy", "kl", "noise"])
def test_the_check_notices_a_lost_entropy_a_mean_kl_and_wrong_noise(wrong, monkeypatch):
    if wrong == "entropy":
        monkeypatch.setattr(Normal, "entropy", lambda self, v: 0.5 * normal.normal_entropy(self.std(v)))
    elif wrong == "kl":
        own = BayesByBackprop._kl
        monkeypatch.setattr(BayesByBackprop, "_kl", lambda self, model, *rest: own(self, model, *rest) / 200)
    else:
        drawn = normal.normal_noise
        monkeypatch.setattr(normal, "normal_noise", lambda *a, **k: drawn(*a, **k) * 2**0.5)
    with pytest.raises(AssertionError):
        check_mean_field(BayesByBackprop(samples=8, learning_rate=RATE))


def check_covariance(posterior, kwargs, samples=16, steps=500):
    """All eigenvalues of covariance / exact covariance within 15 % (over seeds they end within 5 to 11 %).

    The rate falls to 0, so about the last hundred updates decide, of 16 samples each: sqrt(2 / 1600) = 4 %.
    """
    problem = conjugate(rows=40, inputs=3)
    method = BayesByBackprop(posterior=posterior, posterior_kwargs=kwargs, samples=samples, learning_rate=RATE)
    state = problem.fitted(method, steps)
    theta = method.family.sample(state, 100_000, gen(9))[0]
    whiten = torch.linalg.inv(torch.linalg.cholesky(problem.covariance))
    ratios = torch.linalg.eigvalsh(whiten @ torch.cov(theta.T) @ whiten.T)
    assert ((ratios - 1).abs() < 0.15).all(), ratios
    assert ((state["params"][0] - problem.mean).abs() < 0.2 * problem.covariance.diag().sqrt()).all()


@pytest.mark.parametrize(("posterior", "kwargs"), [("full_normal", {}), ("low_rank_normal", {"rank": 3})])
def test_the_full_covariance_is_recovered(posterior, kwargs):
    check_covariance(posterior, kwargs)


def test_mean_field_does_not_recover_it():
    with pytest.raises(AssertionError):
        check_covariance("normal", {}, samples=8, steps=200)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("estimator", ["reparameterised", "local", "flipout"])
def test_mean_field_fixed_point_over_seeds_at_the_defaults(estimator, seed, samples):
    check_mean_field(BayesByBackprop(estimator=estimator, samples=samples), conjugate(seed=10 * seed), steps=3000)


@pytest.mark.parametrize("temperature", [0.25, pytest.param(4.0, marks=pytest.mark.slow)])
def test_temperature_scales_the_kl(temperature):
    """The optimum is that of the posterior with likelihood to the power 1 / T under the untempered prior."""
    problem = conjugate(temperature=temperature)
    state = problem.fitted(BayesByBackprop(samples=4, estimator="local", learning_rate=RATE), STEPS)
    prior = torch.eye(5, dtype=torch.float64)
    tempered = (problem.precision - prior) / temperature + prior
    ratio = Normal().std(state)[0] / tempered.diag().rsqrt()
    assert ((ratio - 1).abs() < 0.1).all()
    mean = torch.linalg.solve(tempered, (problem.precision @ problem.mean) / temperature)
    assert ((state["params"][0] - mean).abs() < 0.2 * tempered.diag().rsqrt()).all()


def test_one_step_is_the_formula():
    problem = conjugate(prior_std=0.5, temperature=0.7)
    method = BayesByBackprop(samples=2)
    state = method.init(problem.model, gen())
    state["rho"] += rand(1, 5, seed=3)
    adam_begin(state, method.trainable_names)
    mu, rho = state["params"].clone(), state["rho"].clone()
    clock = Clock(60, 100)
    values = method.step(state, problem.target.all, clock, gen(7))

    eps = torch.randn(1, 1, 5, generator=gen(7), dtype=torch.float64)[0, 0]
    x, y = torch.cat([problem.target.all.x, torch.ones(200, 1)], 1), problem.target.all.y[:, 0]
    sigma = torch.log1p(rho[0].exp())
    loss, by_mu, by_sigma = 0.0, torch.zeros(5).double(), torch.zeros(5).double()
    for e in (eps, -eps):
        error = y - x @ (mu[0] + sigma * e)
        loss += 0.5 * (0.5 * (error / 0.5) ** 2 + math.log(0.5) + 0.5 * math.log(2 * math.pi)).sum()
        gradient = -(x.T @ error) / 0.25
        by_mu, by_sigma = by_mu + 0.5 * gradient, by_sigma + 0.5 * gradient * e
    kl = (math.log(0.5) - sigma.log() + (sigma**2 + mu[0] ** 2) / (2 * 0.25) - 0.5).sum()
    by_mu = (by_mu + 0.7 * mu[0] / 0.25) / 200
    by_rho = (by_sigma + 0.7 * (sigma / 0.25 - 1 / sigma)) * torch.sigmoid(rho[0]) / 200
    torch.testing.assert_close(values[0], loss + 0.7 * kl, rtol=1e-12, atol=0)
    rate = cosine_rate(0.01, 60, 100)
    for name, start, grad in (("params", mu[0], by_mu), ("rho", rho[0], by_rho)):
        torch.testing.assert_close(state[f"adam_first_{name}"][0], (1 - BETAS[0]) * grad, rtol=0, atol=1e-12)
        moved = start - rate * grad / (grad.abs() + 1e-8)  # Adam's first step
        torch.testing.assert_close(state[name][0], moved, rtol=0, atol=1e-12)


def network_problem(net=None, members_data=None, likelihood=None, prior=None, exclude=(), rows=30):
    net = (net or mlp(3, 2, (8,))).double()
    model = BayesianModel(StackedNetwork(net, exclude=exclude), likelihood or Gaussian(), prior or NormalPrior(), 2)
    x, y = rand(rows, 3, seed=1), rand(rows, 2, seed=2)
    if members_data:
        x, y = (
            torch.stack([x + r for r in range(members_data)]),
            torch.stack([y * (r + 1) for r in range(members_data)]),
        )
    return model, Target(model, x, y)


@pytest.mark.parametrize("posterior", ["normal", "student_t", "low_rank_normal", "full_normal"])
@pytest.mark.parametrize("data", [None, 2])
def test_members_in_one_batch_are_separate_runs(posterior, data, monkeypatch):
    from dynapilco.inference.posteriors import full_rank, low_rank, student_t

    def shared(shape, like, generator, *, antithetic=False):  # the same noise for every member
        return torch.randn(shape[1:], generator=generator, dtype=like.dtype).expand(shape)

    for module in (normal, student_t, low_rank, full_rank):
        monkeypatch.setattr(module, "normal_noise", shared)

    def gamma(shapes, generator):
        return torch.linspace(0.5, 3, shapes.shape[1], dtype=shapes.dtype).view(1, -1, 1).expand_as(shapes)

    monkeypatch.setattr(torch, "_standard_gamma", gamma)
    model, target = network_problem(members_data=data)
    method = BayesByBackprop(posterior=posterior, members=2)
    together = method.init(model, gen(), replicas=data or 1)
    runs = []
    for member in range(2 * (data or 1)):
        alone = {k: v.clone() for k, v in replica(together, member, 2 * (data or 1)).items()}
        own = Target(model, target.all.x[member // 2], target.all.y[member // 2]) if data else target
        fit(method, alone, own, gen(5), steps=15)
        runs.append(alone)
    fit(method, together, target, gen(5), steps=15)
    for name in method.trainable_names:
        torch.testing.assert_close(together[name], torch.cat([run[name] for run in runs]), atol=1e-6, rtol=1e-6)


class Odd(nn.Module):
    """Convolution, norm, a tied weight and a layer used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, 4, 2), nn.LayerNorm(2)
        self.a, self.b, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        h = torch.tanh(self.norm(self.conv(x.unsqueeze(1)))).flatten(1)
        return self.head(self.a(torch.tanh(self.b(torch.tanh(self.a(h))))))


@pytest.mark.parametrize("estimator", ["reparameterised", "local", "flipout"])
@pytest.mark.parametrize("exclude", [(), ("norm.*", "head.bias")])
def test_any_module_in_minibatches(estimator, exclude):
    model, target = network_problem(Odd(), exclude=exclude)
    method = BayesByBackprop(estimator=estimator, batch_size=10)
    state = method.init(model, gen())
    before = {k: v.clone() for k, v in state.items()}
    first = method.loss(state, target.all, gen(1)).mean()
    report = fit(method, state, target, gen(1), steps=30)
    assert not report.diverged and method.loss(state, target.all, gen(1)).mean() < first
    for name in method.trainable_names:
        assert (state[name] != before[name]).all() or name == "points"
    assert (state["points"] != before["points"]).all()  # the noise, and excluded weights
    draw = method.draw(model, state, 5, gen())
    assert draw(target.all.x).shape == (5, 30, 2)


@pytest.mark.parametrize("posterior", ["normal", "student_t", "low_rank_normal", "full_normal"])
def test_any_prior(posterior):
    model, target = network_problem(prior=Logistic())
    method = BayesByBackprop(posterior=posterior)
    state = method.init(model, gen())
    first = method.loss(state, target.all, gen(1)).mean()
    fit(method, state, target, gen(1), steps=30)
    assert method.loss(state, target.all, gen(1)).mean() < first
    assert method.kl(model, state, gen()).shape == (1,)


def test_kl_is_in_nats_and_by_member():
    model, _ = network_problem()
    method = BayesByBackprop(members=3)
    state = method.init(model, gen())
    std = Normal().std(state)
    each = 0.5 * (std.square() + state["params"].square() - 1) - std.log()
    torch.testing.assert_close(method.kl(model, state, gen()), each.sum(-1))


def test_a_users_own_optimiser_trains_it():
    problem = conjugate(rows=60)
    method = BayesByBackprop(samples=4, estimator="local")
    state = method.init(problem.model, gen())
    leaves = [state[name].requires_grad_(True) for name in method.trainable_names if state[name].numel()]
    optimiser, generator = torch.optim.Adam(leaves, lr=RATE), gen(1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        optimiser.zero_grad()
        (method.loss(state, problem.target.all, generator).mean() / 60).backward()
        optimiser.step()
        schedule.step()
    optimum = problem.precision.diag().rsqrt()
    assert ((Normal().std(state)[0] / optimum - 1).abs() < 0.1).all()
    assert ((state["params"][0] - problem.mean).abs() < 0.2 * optimum).all()


def test_draws_are_samples_of_every_member_and_own_their_numbers():
    model, target = network_problem()
    method = BayesByBackprop(members=3, initial_scale=0.3)
    state = method.init(model, gen())
    draw = method.draw(model, state, 7, gen(1))
    f = draw(target.all.x)
    assert f.shape == (7, 30, 2) and not f.requires_grad
    assert len({round(float(v), 9) for v in f[:, 0, 0]}) == 7
    state["params"].zero_()
    assert torch.equal(draw(target.all.x), f)
    many = BayesByBackprop().draw(model, BayesByBackprop().init(model, gen()), 4000, gen(2))
    weights = many.stack.weights[0]
    loc = model.network.dense(BayesByBackprop().init(model, gen())["params"]).weights[0][0]
    scale = 0.05 / 3**0.5  # of 1 / sqrt(fan-in), and below the prior's
    assert ((weights.mean(0) - loc).abs() < 5 * scale / 4000**0.5).all()
    assert ((weights.std(0) / scale - 1).abs() < 5 / 8000**0.5).all()
    assert BayesByBackprop().natural_draws(400) == 50 and BayesByBackprop().natural_draws(8) == 8
    with pytest.raises(UserError, match="draw size 0"):
        method.draw(model, state, 0, gen())


def test_the_same_generator_gives_the_same_fit_and_a_warm_start_goes_on():
    model, target = network_problem(rows=40)
    method = BayesByBackprop(batch_size=16, estimator="flipout")
    ends = []
    for seed in (0, 0, 1):
        state = method.init(model, gen())
        fit(method, state, target, gen(seed), steps=20)
        ends.append(state)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert not torch.equal(ends[0]["rho"], ends[2]["rho"])
    grown = Target(model, target.all.x.repeat(4, 1), target.all.y.repeat(4, 1))
    location, spread = ends[0]["params"].clone(), Normal().std(ends[0]).mean()
    fit(method, ends[0], grown, gen(2), steps=100)
    moved = (ends[0]["params"] - location).norm() / location.norm()
    assert 0 < moved < 1 and ends[0]["adam_count_rho"] == 100  # from where it was, with fresh moments
    assert Normal().std(ends[0]).mean() != spread


def test_grown_data_narrow_the_posterior():
    small, large = conjugate(rows=30), conjugate(rows=300)
    method = BayesByBackprop(samples=4, estimator="local", learning_rate=RATE)
    state = small.fitted(method, 100)
    fit(method, state, large.target, gen(), steps=250)
    ratio = Normal().std(state)[0] / large.precision.diag().rsqrt()
    assert ((ratio - 1).abs() < 0.1).all()


def test_noise_is_learned_along():
    x = rand(400, 3)
    y = 0.2 * x @ rand(3, 2, seed=4) + 0.3 * rand(400, 2, seed=5)
    model = BayesianModel(StackedNetwork(nn.Linear(3, 2).double()), Gaussian(), NormalPrior(), 2)
    method = BayesByBackprop(learning_rate=0.03)
    state = method.init(model, gen())
    fit(method, state, Target(model, x, y), gen(1), steps=400)
    sigma = method.draw(model, state, 1, gen()).scale[0]
    assert ((sigma / 0.3 - 1).abs() < 0.12).all()  # its own standard error is 1 / sqrt(800) = 3.5 %
    assert NOISE_RATE > 1


def test_initial_spread():
    model, _ = network_problem(prior=NormalPrior(0.1))
    std = Normal().std(BayesByBackprop(initial_scale=0.5).init(model, gen()))[0]
    named = model.network.layout.split(std)
    assert named["0.weight"].unique().tolist() == pytest.approx([0.05])  # the prior's .1 is below 1 / sqrt(3)
    assert BayesByBackprop().metrics({"rho": torch.zeros(1, 2)})["posterior_std"] == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples=0"),
        ({"initial_scale": 0.0}, "initial_scale=0.0"),
        ({"estimator": "flip"}, "unknown estimator 'flip': did you mean flipout"),
        ({"posterior": "norml"}, "unknown posterior 'norml': did you mean normal"),
        ({"posterior_kwargs": {"rank": 1}}, "no option 'rank'"),
        ({"estimator": "local", "posterior": "student_t"}, "estimator='local' needs posterior='normal'"),
        ({"estimator": "flipout", "posterior": LowRankNormal()}, "estimator='flipout' needs posterior='normal'"),
        ({"posterior": LowRankNormal(), "posterior_kwargs": {"rank": 1}}, "posterior_kwargs"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"temperature": 0.0}, "temperature=0.0"),
    ],
)
def test_bad_hyper_parameters_are_named(options, message):
    with pytest.raises(UserError, match=message):
        make_method("vi", options)


def test_a_full_covariance_is_refused_before_any_work():
    model = BayesianModel(StackedNetwork(mlp(3, 2, (100, 100))), Gaussian(), NormalPrior(), 2)
    with pytest.raises(UserError, match=r"inference 'bbb': a full covariance of 10702 weights"):
        BayesByBackprop(posterior="full_normal").check(model)
    BayesByBackprop(posterior="low_rank_normal").check(model)
