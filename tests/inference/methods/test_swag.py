"""SWAG: its moments, the covariance of its draws, and how little its spread has to do with the posterior's."""

from dataclasses import replace

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, FanInNormal, Gaussian, StackedNetwork, Target, fit, mlp
from dynapilco.inference.method import Clock
from dynapilco.inference.methods.swag import SWAG
from tests.inference.harness import conjugate, gen, rand
from tests.inference.methods import point_checks as checks
from tests.inference.methods.natural_checks import fixed_initial_weights  # noqa: F401

EVERY = {"start": 0.0, "optimiser": "sgd", "swag_rate": 0.02, "batch_size": None}


class Variance(SWAG):
    """A variance taken for a standard deviation."""

    def draw(self, model, state, size, generator):
        return super().draw(model, {**state, "squares": state["squares"].square()}, size, generator)


class NoRoot(SWAG):
    """The 1 / sqrt 2 is dropped."""

    def draw(self, model, state, size, generator):
        return SWAG(rank=self.rank, scale=2 * self.scale).draw(model, state, size, generator)


class Newest(SWAG):
    """When D is full, its newest column is overwritten instead of the oldest dropped."""

    def _collect(self, state):
        old = state["deviations"]
        super()._collect(state)
        if int(state["collected"]) > self.rank:
            state["deviations"] = torch.cat([old[:, :-1], state["deviations"][:, -1:]], 1)


def samples(method, problem, state, size):
    """Parameters (size, n) of a draw from a linear model."""
    stack = method.draw(problem.model, state, size, gen(3)).stack
    return torch.cat([stack.weights[0][..., 0], stack.biases[0]], 1)


def made_up(method, problem, members=1):
    """A state with moments that no fit would make: columns that are strongly correlated."""
    state = replace(method, members=members).init(problem.model, gen())
    state["mean"] = rand(members, 5, seed=1)
    state["squares"] = 30 * (rand(members, 5, seed=2).square() + 0.1)
    state["collected"] += 30
    if method.rank:
        state["deviations"] = rand(members, method.rank, 5, seed=3) + rand(members, method.rank, 1, seed=4)
    return state


def check_covariance(method, size=20000):
    """94 to 96 % of the draws inside the 95 % ellipsoid of the documented covariance."""
    problem = conjugate()
    state = made_up(method, problem)
    variance, columns = state["squares"][0] / 30, state["deviations"][0]
    covariance = 2 * method.scale * torch.diag(variance)
    if method.rank:
        covariance = method.scale * (torch.diag(variance) + columns.T @ columns / (method.rank - 1))
    offset = samples(method, problem, state, size) - state["mean"]
    distance = (offset @ torch.linalg.inv(covariance) * offset).sum(1)
    assert 0.94 <= (distance < 11.0705).double().mean() <= 0.96  # chi^2 with 5 degrees of freedom
    torch.testing.assert_close(torch.cov(offset.T) / covariance.max(), covariance / covariance.max(), atol=0.05, rtol=0)


@pytest.mark.parametrize("rank", [0, 4, 20])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_draws_have_the_documented_covariance(rank, scale):
    check_covariance(SWAG(rank=rank, scale=scale))


@pytest.mark.parametrize("broken", [Variance, NoRoot])
@pytest.mark.parametrize("rank", [0, 20])
def test_a_wrong_covariance_is_noticed(broken, rank):
    with pytest.raises(AssertionError):
        check_covariance(broken(rank=rank))


def test_half_scale_estimates_the_whole_variance():
    """With as many columns as iterates, both parts of the covariance agree on the diagonal, hence so does their sum."""
    problem = conjugate()
    method = SWAG(rank=40, collections=40, start=0.0, batch_size=20)
    state = problem.fitted(method, 400)
    full = samples(method, problem, state, 20000).var(0)
    diagonal = samples(SWAG(rank=0), problem, {**state, "deviations": state["deviations"][:, :0]}, 20000).var(0)
    torch.testing.assert_close(diagonal, state["squares"][0] / 40, rtol=0.05, atol=0)
    # deviations are from the running mean, which lags: the low-rank part is a little smaller or larger
    torch.testing.assert_close(full, diagonal, rtol=0.5, atol=0)


def check_collection(method, steps=9):
    """Iterates by gradient descent, and their moments, against plain formulas: 1e-12."""
    problem = conjugate()
    state = method.init(problem.model, gen())
    method.begin(state, problem.target, gen())
    theta, seen, columns = state["params"][0].clone(), [], []
    for t in range(steps):
        method.step(state, problem.target.batch(), Clock(t, steps), gen())
        theta = theta - 0.02 * problem.precision @ (theta - problem.mean) / 200
        seen.append(theta)
        columns.append(theta - torch.stack(seen).mean(0))
    torch.testing.assert_close(state["params"][0], theta, atol=1e-12, rtol=0)
    iterates = torch.stack(seen)
    torch.testing.assert_close(state["mean"][0], iterates.mean(0), atol=1e-12, rtol=0)
    second = iterates.square().mean(0) - iterates.mean(0).square()
    torch.testing.assert_close(state["squares"][0] / state["collected"], second, atol=1e-12, rtol=0)
    torch.testing.assert_close(state["deviations"][0], torch.stack(columns[-3:]), atol=1e-12, rtol=0)


def test_moments_and_columns_equal_the_paper():
    check_collection(SWAG(rank=3, collections=9, **EVERY))


def test_a_wrong_column_is_noticed():
    with pytest.raises(AssertionError):
        check_collection(Newest(rank=3, collections=9, **EVERY))


def test_the_schedule_follows_the_number_of_steps():
    """A MAP phase, then the collections, evenly, whatever the number of steps."""
    problem = conjugate()
    for steps in (50, 200, 333):
        method = SWAG(collections=10, start=0.6)
        state, seen = method.init(problem.model, gen()), []
        method.begin(state, problem.target, gen())
        for t in range(steps):
            method.step(state, problem.target.batch(), Clock(t, steps), gen())
            seen.append(int(state["collected"]))
        assert seen[int(0.6 * steps) - 1] == 0
        assert seen[-1] == 10
        assert abs(seen[int(0.8 * steps)] - 5) <= 1


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("rate", "steps", "factor"),
    [(0.01, 1000, 0.127), pytest.param(0.01, 3000, 0.134, marks=SLOW), pytest.param(0.001, 3000, 0.0138, marks=SLOW)],
)
def test_the_documented_bias(rate, steps, factor):
    """Measured sd / mean-field sd of N = 200 rows, batches of 32: what the module's docstring says, of 3000 steps."""
    problem = conjugate()
    state = problem.fitted(SWAG(swag_rate=rate), steps)
    ratio = (state["squares"] / state["collected"]).sqrt()[0] * problem.precision.diagonal().sqrt()
    assert ratio.square().mean().sqrt().item() == pytest.approx(factor, rel=0.1)
    assert ((state["mean"][0] - problem.mean).abs() * problem.precision.diagonal().sqrt()).max() < 0.2


def test_members_are_a_mixture():
    problem = conjugate()
    method = SWAG(members=2)
    state = made_up(method, problem, members=2)
    state["mean"][1] += 1000
    high = samples(method, problem, state, 10).mean(1) > 500
    assert high.sum() == 5


def test_draws_before_and_after_few_collections():
    problem = conjugate()
    state = SWAG().init(problem.model, gen())
    before = samples(SWAG(), problem, state, 3)
    assert torch.equal(before, state["params"].expand(3, -1))
    SWAG()._collect(state)
    assert samples(SWAG(), problem, state, 3).isfinite().all()


def test_a_new_fit_forgets_older_iterates():
    problem = conjugate()
    state = problem.fitted(SWAG(), 60)
    kept = state["params"].clone()
    SWAG().begin(state, problem.target, gen())
    assert torch.equal(state["params"], kept)
    assert torch.equal(state["mean"], kept)
    assert not any(state[k].any() for k in ("squares", "deviations", "collected"))


def test_fits_a_curve_with_a_spread():
    x = torch.linspace(-2, 2, 100).unsqueeze(1)
    model = BayesianModel(StackedNetwork(mlp(1, 1, (20,))), Gaussian(), FanInNormal(), 1)
    y = torch.sin(2 * x) + 0.05 * torch.randn(100, 1, generator=gen(1))
    method = SWAG()
    state = method.init(model, gen())
    fit(method, state, Target(model, x, y), gen(1), steps=2000)
    f = method.draw(model, state, 40, gen(2))(x)
    assert (f.mean(0) - torch.sin(2 * x)).square().mean().sqrt() < 0.1
    assert 0.003 < f.std(0).mean() < 0.2


def test_what_every_point_estimate_does():
    checks.check_members(SWAG(batch_size=None, rank=3), ("params", "points", "mean", "squares", "deviations"))
    checks.check_any_module(SWAG())
    checks.check_warm_start(SWAG(learning_rate=0.03))
    assert SWAG().natural_draws(500) == 50
    assert not SWAG().has_loss
    bad = {"rank": -1, "scale": 0.0, "learning_rate": 0.0, "swag_rate": 0.0, "optimiser": "lbfgs", "start": 1.0}
    for name, value in {**bad, "collections": 1, "members": 0}.items():
        with pytest.raises(UserError, match=name):
            SWAG(**{name: value})
