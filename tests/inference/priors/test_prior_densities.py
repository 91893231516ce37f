"""Every prior: normalised, sampled from the same density, in both dtypes, with its spread and curvature."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import erf

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors import (
    FanInNormal,
    HorseshoePrior,
    LaplacePrior,
    NormalPrior,
    PerLayer,
    ScaleMixture,
    StudentTPrior,
    TorchPrior,
    make_prior,
)
from tests.inference.harness import gen, rand

ONE = ParameterLayout(("w",), (torch.Size((1,)),))
LAYOUT = ParameterLayout(("0.weight", "0.bias", "2.weight"), (torch.Size((4, 3)), torch.Size((4,)), torch.Size((1, 4))))


def horseshoe_cdf(x, scale=0.7):
    """From the hierarchy itself, not from the marginal density: l = tan(t) with t uniform."""
    t = np.linspace(0, np.pi / 2, 2001)[:-1] + np.pi / 8000
    inner = erf(np.abs(np.atleast_1d(x))[:, None] / (scale * np.tan(t) * 2**0.5)).mean(1)
    return 0.5 + 0.5 * np.sign(x) * inner


def mixture_cdf(x):
    return 0.3 * stats.norm.cdf(x, scale=1.5) + 0.7 * stats.norm.cdf(x, scale=0.1)


PRIORS = {
    "normal": (NormalPrior(0.7), stats.norm(scale=0.7).cdf),
    "fan_in_normal": (FanInNormal(1.0, 1.3), stats.norm(scale=1.3).cdf),
    "student_t": (StudentTPrior(3.0, 0.7), stats.t(3.0, scale=0.7).cdf),
    "cauchy": (StudentTPrior(1.0, 0.7), stats.cauchy(scale=0.7).cdf),
    "laplace": (LaplacePrior(0.7), stats.laplace(scale=0.7).cdf),
    "horseshoe": (HorseshoePrior(0.7), horseshoe_cdf),
    "scale_mixture": (ScaleMixture(0.3, 1.5, 0.1), mixture_cdf),
    "torch": (TorchPrior(torch.distributions.Gumbel(0.3, 0.7)), stats.gumbel_r(0.3, 0.7).cdf),
    "per_layer": (PerLayer({"*": LaplacePrior(0.7)}), stats.laplace(scale=0.7).cdf),
}


@pytest.mark.parametrize("name", PRIORS)
def test_density_is_the_derivative_of_the_distribution_function(name):
    """So it is normalised, and no constant is missing: mass between points equals differences of an independent cdf."""
    prior, cdf = PRIORS[name]
    edges = np.array([-3.0, -1.0, -0.3, -0.05, -1e-3, 1e-3, 0.02, 0.4, 1.2, 4.0])
    for low, high in itertools.pairwise(edges):
        if low < 0 < high and name == "horseshoe":
            continue  # singular there: its own test integrates over it

        def density(w):
            return math.exp(prior.log_prob(torch.tensor([[w]], dtype=torch.float64), ONE).item())

        mass, _ = integrate.quad(density, low, high, epsabs=1e-10, epsrel=1e-8)
        tolerance = 2e-5 if name == "horseshoe" else 1e-7  # of the midpoint rule of horseshoe_cdf
        assert mass == pytest.approx((cdf(high) - cdf(low)).item(), abs=tolerance)


@pytest.mark.parametrize("name", PRIORS)
def test_density_integrates_to_one(name):
    prior, _ = PRIORS[name]
    grid = np.sinh(np.linspace(-22, 22, 400_001)) * 1e-4  # fine around 0, to +-1.8e5
    density = prior.log_prob(torch.from_numpy(grid).unsqueeze(-1), ONE).exp().numpy()
    tails = {"cauchy": 2.5e-6, "horseshoe": 3e-6}.get(name, 0.0)  # their mass beyond the grid: 2 K scale / 1.8e5
    assert np.trapezoid(density, grid) == pytest.approx(1 - tails, abs=2e-6)


@pytest.mark.parametrize("name", PRIORS)
def test_samples_have_that_distribution(name):
    """Kolmogorov-Smirnov on 20,000 draws, seed fixed; a wrong scale by 2 % is at p < 1e-3 for most."""
    prior, cdf = PRIORS[name]
    sample = prior.sample(ONE, 20_000, gen(5))
    assert sample.shape == (20_000, 1) and sample.dtype == torch.float32 and torch.isfinite(sample).all()
    grid = np.concatenate([-np.logspace(3, -6, 800), np.logspace(-6, 3, 800)])
    table = cdf(grid)
    found = stats.kstest(sample[:, 0].numpy(), lambda x: np.interp(x, grid, table))
    assert found.pvalue > 1e-3
    wider = stats.kstest(1.05 * sample[:, 0].numpy(), lambda x: np.interp(x, grid, table))
    assert wider.statistic > found.statistic


@pytest.mark.parametrize("name", PRIORS)
def test_the_spread_is_that_of_samples(name):
    """Standard deviation, or half the central 68.3 % where the variance is infinite: 5 sd of either are below 5 %."""
    prior, _ = PRIORS[name]
    sample = prior.sample(ONE, 200_000, gen(6))[:, 0].double()
    if name in ("cauchy", "horseshoe"):
        high, low = torch.quantile(sample, torch.tensor([0.8413447, 0.1586553], dtype=torch.float64))
        expected = (high - low) / 2
    else:
        expected = sample.std()
    tolerance = 0.2 if name == "student_t" else 0.03  # the fourth moment of t(3) is infinite
    assert prior.std(ONE).item() == pytest.approx(expected.item(), rel=tolerance)


EXACT = {
    "student_t": (StudentTPrior(3.0, 0.7), 0.7 * 3**0.5),
    "cauchy": (StudentTPrior(1.0, 0.7), 0.7 * math.tan(math.pi * (stats.norm.cdf(1) - 0.5))),
    "laplace": (LaplacePrior(0.7), 0.7 * 2**0.5),
    "scale_mixture": (ScaleMixture(0.3, 1.5, 0.1), (0.3 * 1.5**2 + 0.7 * 0.01) ** 0.5),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_spread_is_exact(name):
    prior, expected = EXACT[name]
    torch.testing.assert_close(prior.std(LAYOUT), torch.full((20,), expected))


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_networks(name, dtype):
    prior, _ = PRIORS[name]
    params = rand(5, LAYOUT.total, seed=1, dtype=dtype)
    value = prior.log_prob(params, LAYOUT)
    assert value.shape == (5,) and value.dtype == dtype
    if name != "fan_in_normal":  # which looks at the layers
        each = torch.stack([prior.log_prob(params[:, i : i + 1], ONE) for i in range(LAYOUT.total)]).sum(0)
        torch.testing.assert_close(value, each)
    torch.testing.assert_close(value.double(), prior.log_prob(params.double(), LAYOUT), rtol=1e-5, atol=1e-4)
    assert prior.curvature(params, LAYOUT).dtype == dtype
    assert prior.std(LAYOUT).shape == (LAYOUT.total,)
    assert torch.equal(prior.sample(LAYOUT, 3, gen(2)), prior.sample(LAYOUT, 3, gen(2)))
    assert not torch.equal(prior.sample(LAYOUT, 3, gen(2)), prior.sample(LAYOUT, 3, gen(3)))
    assert hash(prior) == hash(prior)


@pytest.mark.parametrize("name", PRIORS)
def test_curvature_is_that_of_finite_differences(name):
    prior, _ = PRIORS[name]
    w, h = torch.tensor([[-1.3], [-0.2], [0.05], [2.5]], dtype=torch.float64), 1e-4
    values = [prior.log_prob(w + k * h, ONE) for k in (-1, 0, 1)]
    expected = -(values[0] - 2 * values[1] + values[2]) / h**2
    torch.testing.assert_close(prior.curvature(w, ONE)[:, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PRIORS)
def test_gaussian_is_claimed_only_where_it_is_exact(name):
    prior, _ = PRIORS[name]
    assert prior.gaussian == (name in ("normal", "fan_in_normal"))


def test_a_wide_student_t_is_nearly_normal():
    params = rand(4, 20)
    torch.testing.assert_close(
        StudentTPrior(1e7, 0.5).log_prob(params, LAYOUT),
        NormalPrior(0.5).log_prob(params, LAYOUT),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_spike_does_not_underflow():
    """e^-800,000 of the spike, far away from it, leaves the slab alone."""
    far = torch.full((1, 1), 3.0, requires_grad=True)
    value = ScaleMixture().log_prob(far, ONE)
    (gradient,) = torch.autograd.grad(value.sum(), far)
    assert value.item() == pytest.approx(math.log(0.5) + stats.norm.logpdf(3.0), rel=1e-6)
    assert gradient.item() == pytest.approx(-3.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StudentTPrior(df=0.0), "df=0.0"),
        (lambda: StudentTPrior(scale=-1.0), "scale=-1.0"),
        (lambda: LaplacePrior(math.nan), "scale=nan"),
        (lambda: HorseshoePrior(math.inf), "scale=inf"),
        (lambda: ScaleMixture(pi=1.0), "pi=1.0"),
        (lambda: ScaleMixture(sigma2=0.0), "sigma2=0.0"),
        (lambda: make_prior("laplace", rate=1.0), "no option 'rate': valid options are scale"),
        (lambda: make_prior("laplas"), "did you mean laplace"),
        (lambda: make_prior("torch"), "needs the option distribution"),
        (lambda: make_prior(NormalPrior(), scale=1.0), "options scale go with a name"),
        (lambda: make_prior({"*": "normal"}, scale=1.0), "options scale go with a name"),
        (lambda: make_prior(1.0), "unknown prior 1.0"),  # pyright: ignore
    ],
)
def test_options_that_make_no_sense(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_names():
    expected = {
        "student_t": StudentTPrior(), "laplace": LaplacePrior(), "horseshoe": HorseshoePrior(),
        "scale_mixture": ScaleMixture(), "normal": NormalPrior(), "fan_in_normal": FanInNormal(),
    }  # fmt: skip
    assert {name: make_prior(name) for name in expected} == expected
    assert make_prior(("student_t", {"df": 5.0}), scale=2.0) == StudentTPrior(5.0, 2.0)
