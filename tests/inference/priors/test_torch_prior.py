"""Any distribution of torch as a prior."""

import pytest
import torch
from torch import distributions as td

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors import NormalPrior, TorchPrior, make_prior
from tests.inference.harness import gen, rand

LAYOUT = ParameterLayout(("0.weight", "0.bias", "1.weight"), (torch.Size((2, 3)), torch.Size((2,)), torch.Size((3,))))
WEIGHT = ParameterLayout(("0.weight",), (torch.Size((2, 3)),))


def mixture():
    return td.MixtureSameFamily(
        td.Categorical(torch.tensor([0.2, 0.8])), td.Normal(torch.zeros(2), torch.tensor([2.0, 0.1]))
    )


REAL = {
    "normal": lambda: td.Normal(0.0, 0.5),
    "shifted": lambda: td.Normal(0.2, 0.5),
    "student_t": lambda: td.StudentT(3.0),
    "cauchy": lambda: td.Cauchy(0.0, 0.5),
    "laplace": lambda: td.Laplace(0.0, 0.5),
    "gumbel": lambda: td.Gumbel(0.0, 0.5),
    "mixture": mixture,
    "transformed": lambda: td.TransformedDistribution(td.StudentT(4.0), td.AffineTransform(0.0, 2.0)),
    "one in a batch": lambda: td.Normal(torch.zeros(1), torch.ones(1)),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_real_distributions(name, dtype):
    distribution = REAL[name]()
    prior = make_prior(distribution)
    assert isinstance(prior, TorchPrior)
    params = rand(4, 11, dtype=dtype)
    value = prior.log_prob(params, LAYOUT)
    assert value.shape == (4,) and value.dtype == dtype
    torch.testing.assert_close(value, distribution.log_prob(params).sum(-1).to(dtype))
    sample = prior.sample(LAYOUT, 5, gen(1))
    assert sample.shape == (5, 11) and torch.equal(sample, prior.sample(LAYOUT, 5, gen(1)))
    assert prior.std(LAYOUT).shape == (11,) and (prior.std(LAYOUT) > 0).all()
    assert prior.curvature(params, LAYOUT).shape == (4, 11)


def test_sampling_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    make_prior(td.StudentT(3.0)).sample(LAYOUT, 5, gen(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        (lambda: td.Gamma(1.0, 1.0), r"prior Gamma has the support Greater.*real numbers"),
        (lambda: td.Beta(1.0, 1.0), r"prior Beta has the support Interval"),
        (lambda: td.HalfNormal(1.0), "prior HalfNormal"),
        (lambda: td.LogNormal(0.0, 1.0), "prior LogNormal"),
        (lambda: td.Uniform(-1.0, 1.0), "prior Uniform"),
        (lambda: td.Poisson(1.0), "prior Poisson"),
        (lambda: td.MultivariateNormal(torch.zeros(3), torch.eye(3)), r"tensors of shape \(3,\).*single numbers"),
        (lambda: td.Independent(td.Normal(torch.zeros(3), 1.0), 1), r"shape \(3,\)"),
        (lambda: td.Dirichlet(torch.ones(3)), "prior Dirichlet"),
    ],
)
def test_wrong_supports_are_named(distribution, words):
    with pytest.raises(UserError, match=words):
        make_prior(distribution())
    with pytest.raises(UserError, match=words):
        make_prior({"*.weight": "normal", "*": distribution()})


def test_no_distribution():
    with pytest.raises(UserError, match=r"distribution=0.5: expected a torch.distributions"):
        TorchPrior(0.5)  # pyright: ignore


def test_gaussian_only_around_zero():
    assert make_prior(td.Normal(0.0, 0.5)).gaussian
    assert not make_prior(td.Normal(0.1, 0.5)).gaussian and not make_prior(td.Laplace(0.0, 0.5)).gaussian
    assert not make_prior(td.Normal(torch.tensor([0.0, 0.1, 0.0]), 0.5)).gaussian
    params = rand(4, 11)
    torch.testing.assert_close(
        make_prior(td.Normal(0.0, 0.5)).log_prob(params, LAYOUT), NormalPrior(0.5).log_prob(params, LAYOUT)
    )
    expected = torch.full((4, 11), 4.0).double()
    torch.testing.assert_close(make_prior(td.Normal(0.0, 0.5)).curvature(params, LAYOUT), expected)
    torch.testing.assert_close(make_prior(td.Normal(0.1, 0.5)).curvature(params, LAYOUT), expected)


def test_a_batch_shape_that_broadcasts():
    """A scale for each input of a layer: (3,) over (2, 3)."""
    scales = torch.tensor([0.1, 1.0, 10.0])
    prior = TorchPrior(td.Laplace(0.0, scales))
    torch.testing.assert_close(prior.std(WEIGHT), (scales * 2**0.5).repeat(2))
    params = rand(4, 6)
    truth = td.Laplace(0.0, scales.repeat(2).double()).log_prob(params).sum(-1)
    torch.testing.assert_close(prior.log_prob(params, WEIGHT), truth, rtol=1e-6, atol=1e-6)
    sample = prior.sample(WEIGHT, 20_000, gen(2))
    torch.testing.assert_close(sample.std(0) / prior.std(WEIGHT), torch.ones(6), atol=0.06, rtol=0)  # 5 sd is 0.056
    expected = td.Laplace(0.0, scales.repeat(2).double())
    assert prior.curvature(params, WEIGHT).shape == (4, 6) and expected.batch_shape == (6,)


def test_a_batch_shape_that_does_not():
    prior = TorchPrior(td.Normal(torch.zeros(3), 1.0))
    for call in (prior.std, prior.check, lambda layout: prior.log_prob(rand(1, 11), layout)):
        with pytest.raises(UserError, match=r"batch shape \(3,\).*'0.bias' of shape \(2,\)"):
            call(LAYOUT)
    with pytest.raises(UserError, match=r"'0.bias'"):
        prior.sample(LAYOUT, 2, gen())
    with pytest.raises(UserError, match=r"batch shape \(1, 1, 3\)|batch shape \(2, 2, 3\)"):
        TorchPrior(td.Normal(torch.zeros(2, 2, 3), 1.0)).std(WEIGHT)


@pytest.mark.parametrize(
    ("distribution", "expected", "tolerance"),
    [
        (lambda: td.StudentT(3.0), 3**0.5, 1e-6),
        (lambda: td.Cauchy(0.0, 0.5), 0.5 * 1.8373, 1e-4),  # tan(pi (0.8413 - 0.5))
        (lambda: td.StudentT(1.0), 1.8373, 0.15),  # from 4,096 samples
        (lambda: td.TransformedDistribution(td.Normal(0.0, 1.0), td.AffineTransform(3.0, 2.0)), 2.0, 1e-5),
    ],
)
def test_spreads(distribution, expected, tolerance):
    assert TorchPrior(distribution()).std(WEIGHT)[0].item() == pytest.approx(expected, rel=tolerance)


def test_numbers_gone_bad_are_left_to_the_fit():
    """With torch's own check a NaN would end in torch's error, without the name of the method and the step."""
    value = make_prior(td.Normal(0.0, 1.0)).log_prob(torch.full((1, 11), float("nan")), LAYOUT)
    assert value.isnan().all()


def test_the_dtype_is_that_of_the_parameters():
    one = torch.ones(1, dtype=torch.float64)
    for scale, layout in ((one, LAYOUT), (one.expand(3), WEIGHT)):
        prior = TorchPrior(td.Laplace(0 * scale, scale))
        assert prior.log_prob(rand(2, layout.total, dtype=torch.float32), layout).dtype == torch.float32
        assert prior.sample(layout, 2, gen()).dtype == prior.std(layout).dtype == torch.float32
