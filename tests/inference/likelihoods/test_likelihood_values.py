"""Densities against scipy, agreement of log_prob and distribution, shapes, dtypes, gradients."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    Joint,
    Poisson,
    StudentT,
    make_likelihood,
)
from tests.inference.harness import rand

S, B = 3, 7
JOINT = Joint((("gaussian", 2), (Categorical(3), 1), ("heteroscedastic", 1), (StudentT(learn_df=True), 2)))
CASES = {
    "gaussian": (Gaussian(), 2),
    "heteroscedastic": (HeteroscedasticGaussian(), 2),
    "student_t": (StudentT(df=3.5), 2),
    "student_t learned": (StudentT(learn_df=True), 2),
    "bernoulli": (Bernoulli(), 2),
    "categorical": (Categorical(4), 1),
    "categorical, two columns": (Categorical(3), 2),
    "poisson": (Poisson(), 2),
    "poisson softplus": (Poisson(link="softplus"), 2),
    "joint": (JOINT, 6),
}


def example(name, dtype=torch.float64):
    """Likelihood, raw noise (S, k), outputs (S, B, width) and prepared targets (S, B, out) from the likelihood."""
    likelihood, outputs = CASES[name]
    raw = likelihood.init(S, outputs).to(dtype)
    raw = raw + rand(*raw.shape, seed=1, dtype=dtype)
    f = rand(S, B, likelihood.network_outputs(outputs), seed=2, dtype=dtype)
    noise = likelihood.constrain(raw)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        y = likelihood.distribution(noise, f).sample()
    return likelihood, raw, f, likelihood.prepare(y, outputs)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_prob_is_that_of_the_distribution(name, dtype):
    likelihood, raw, f, y = example(name, dtype)
    p = likelihood.distribution(likelihood.constrain(raw), f)
    assert p.batch_shape == (S, B, CASES[name][1])
    tolerance = {"rtol": 1e-5, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    for targets in (y, y[0]):
        own = likelihood.log_prob(raw, f, targets)
        assert own.shape == (S, B) and own.dtype == dtype
        torch.testing.assert_close(own, p.log_prob(targets).sum(-1).to(dtype), **tolerance)
    assert likelihood.log_prior(raw).shape == (S,) and likelihood.log_prior(raw).dtype == dtype


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name):
    likelihood, raw, f, y = example(name)
    raw, f = raw.requires_grad_(True), f.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda r, g: likelihood.log_prob(r, g, y) + likelihood.log_prior(r)[:, None], (raw, f)
    )


@pytest.mark.parametrize("name", CASES)
def test_members_do_not_mix(name):
    likelihood, raw, f, y = example(name)
    together = likelihood.log_prob(raw, f, y)
    alone = torch.cat([likelihood.log_prob(raw[s : s + 1], f[s : s + 1], y[s : s + 1]) for s in range(S)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def by_scipy(name, f, noise, y):
    """Log density of each column, written from scipy's own parametrisations."""
    f, noise, y = f.numpy(), noise.numpy()[:, None], y.numpy()
    if name == "heteroscedastic":
        low, high, mean = -10.0, 2.0, f[..., :2]
        upper = high - np.logaddexp(0, high - f[..., 2:])
        return stats.norm(mean, np.exp(0.5 * (low + np.logaddexp(0, upper - low)))).logpdf(y)
    if name == "student_t":
        return stats.t(3.5, f, noise).logpdf(y)
    if name == "student_t learned":
        return stats.t(noise[..., 2:], f, noise[..., :2]).logpdf(y)
    if name == "bernoulli":
        return stats.bernoulli(1 / (1 + np.exp(-f))).logpmf(y)
    if name == "poisson":
        return stats.poisson(np.exp(f)).logpmf(y)
    if name == "poisson softplus":
        return stats.poisson(np.log1p(np.exp(f))).logpmf(y)
    probabilities = np.exp(f) / np.exp(f).sum(-1, keepdims=True)
    return np.log(np.take_along_axis(probabilities, y, -1))


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("gaussian", "joint", "categorical, two columns")])
def test_densities_are_those_of_scipy(name):
    likelihood, raw, f, y = example(name)
    truth = by_scipy(name, f, likelihood.constrain(raw), y).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(raw, f, y), torch.from_numpy(truth), rtol=1e-9, atol=1e-9)


def test_categorical_of_two_columns_is_two_categoricals():
    likelihood, raw, f, y = example("categorical, two columns")
    one = Categorical(3)
    parts = one.log_prob(raw, f[..., :3], y[..., :1]) + one.log_prob(raw, f[..., 3:], y[..., 1:])
    torch.testing.assert_close(likelihood.log_prob(raw, f, y), parts)


def test_the_log_variance_stays_within_its_bounds_and_keeps_a_gradient():
    likelihood = HeteroscedasticGaussian(-6.0, 1.0)
    free = torch.tensor([-1e4, -12.0, -2.5, 6.0, 1e4], dtype=torch.float64, requires_grad=True)
    f = torch.stack([torch.zeros_like(free), free], -1).unsqueeze(0)
    found = likelihood.distribution(torch.ones(1, 1), f).variance.log()[0, :, 0]
    # the two soft bounds overlap by at most log(1 + exp(low - high)) = 9e-4
    assert found.min() >= -6 - 1e-9 and found.max() <= 1 + 1e-3
    assert abs(found[2] + 2.5) < 0.1  # far from both bounds it is the network's own
    (gradient,) = torch.autograd.grad(found.sum(), free)
    assert gradient[1] > 1e-3 and gradient[3] > 1e-3 and 0.9 < gradient[2] <= 1


def test_student_t_scale_is_the_standard_deviation():
    fixed, learned = StudentT(df=5.0), StudentT(learn_df=True)
    noise = torch.tensor([[0.5, 2.0]])
    torch.testing.assert_close(fixed.scale(noise), noise * (5 / 3) ** 0.5)
    torch.testing.assert_close(learned.scale(torch.cat([noise, torch.tensor([[3.0, 8.0]])], -1)),
                               noise * torch.tensor([3.0, 8 / 6]).sqrt())  # fmt: skip
    with pytest.raises(UserError, match="df=1"):
        StudentT(df=1.0).scale(noise)


def test_student_t_learns_scale_and_df():
    """Maximum likelihood from 5,000 rows: the standard errors are 2 % of the scale and 6 % of df."""
    likelihood, rows = StudentT(learn_df=True, df=10.0), 5_000
    y = torch.from_numpy(stats.t(4.0, scale=0.5).rvs((rows, 1), random_state=np.random.default_rng(0)))
    raw = likelihood.init(1, 1).double().requires_grad_(True)
    optimiser = torch.optim.LBFGS([raw], max_iter=25, line_search_fn="strong_wolfe")
    f = torch.zeros(1, rows, 1, dtype=torch.float64)

    def closure():
        optimiser.zero_grad()
        loss = -likelihood.log_prob(raw, f, y).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    scale, df = likelihood.constrain(raw.detach())[0].tolist()
    assert scale == pytest.approx(0.5, rel=0.06) and df == pytest.approx(4.0, rel=0.18)


@pytest.mark.parametrize("learn", [False, True])
def test_student_t_starts_where_it_says(learn):
    likelihood = StudentT(df=7.0, learn_df=learn, floor=0.01, initial=0.3)
    found = likelihood.constrain(likelihood.init(2, 3))
    expected = [0.3] * 3 + [7.0] * 3 * learn
    torch.testing.assert_close(found, torch.tensor([expected] * 2))
    assert likelihood.constrain(torch.full((1, 6), -1e4))[0, 0] == pytest.approx(0.01)
    assert likelihood.log_prior(likelihood.init(2, 3)).tolist() == [0.0, 0.0]
    moved = likelihood.init(2, 3) + 3.0  # one standard deviation of the weak prior in each of the parameters
    assert likelihood.log_prior(moved).tolist() == pytest.approx([-0.5 * len(expected)] * 2)


def test_poisson_softplus_is_finite_far_below():
    likelihood = Poisson(link="softplus")
    f = torch.tensor([[[-300.0], [-15.0], [-14.999], [80.0]]], requires_grad=True)
    value = likelihood.log_prob(torch.zeros(1, 0), f, torch.ones(4, 1))
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    torch.testing.assert_close(value[0, 1], value[0, 2], atol=2e-3, rtol=0)
    assert value[0, 0].item() == pytest.approx(-300.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StudentT(df=0.0), "df=0.0"),
        (lambda: StudentT(df=2.0, learn_df=True), "df=2.0.*above 2.1"),
        (lambda: StudentT(df=math.inf), "df=inf"),
        (lambda: StudentT(floor=0.4), "floor=0.4"),
        (lambda: HeteroscedasticGaussian(1.0, 0.0), "min_log_variance=1.0"),
        (lambda: HeteroscedasticGaussian(-math.inf, 0.0), "finite"),
        (lambda: Poisson(link="exp"), "unknown link 'exp'.*log, softplus"),
        (lambda: Categorical(1), "classes=1"),
        (lambda: Categorical(2.0), "classes=2.0"),  # pyright: ignore
    ],
)
def test_options_that_make_no_sense(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_widths():
    assert HeteroscedasticGaussian().network_outputs(3) == 6 and HeteroscedasticGaussian().target_columns(6) == 3
    assert Categorical(4).network_outputs(2) == 8 and Categorical(4).target_columns(8) == 2
    assert Categorical().target_columns(5) == 1 and Categorical().for_network(5) == Categorical(5)
    assert Categorical(3).for_network(3) == Categorical(3) and Poisson().for_network(3) == Poisson()
    with pytest.raises(UserError, match="3 outputs, expected an even number"):
        HeteroscedasticGaussian().target_columns(3)
    with pytest.raises(UserError, match=r"width 5.*classes=4"):
        Categorical(4).target_columns(5)
    with pytest.raises(UserError, match="bernoulli"):
        Categorical().target_columns(1)
    with pytest.raises(UserError, match="give classes"):
        Categorical().network_outputs(1)


def test_names():
    names = ["gaussian", "heteroscedastic", "student_t", "bernoulli", "categorical", "poisson"]
    classes = [Gaussian, HeteroscedasticGaussian, StudentT, Bernoulli, Categorical, Poisson]
    for name, cls in zip(names, classes, strict=True):
        assert make_likelihood(name) == cls()
        assert hash(cls()) == hash(cls())
    assert [cls().discrete for cls in classes] == [False, False, False, True, True, True]
