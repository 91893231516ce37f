"""Scores of regression predictives against scoringrules, scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics import (
    crps_gaussian,
    crps_gaussian_mixture,
    crps_samples,
    moment_match,
    nll_gaussian,
    nll_mixture,
    rmse,
    sharpness,
)

scoringrules = pytest.importorskip("scoringrules")

S, B, OUT, K = 5, 7, 3, 64


@pytest.fixture
def case():
    g = torch.Generator().manual_seed(3)
    mean = torch.randn(S, B, OUT, generator=g, dtype=torch.float64)
    std = 0.3 + torch.rand(S, B, OUT, generator=g, dtype=torch.float64)
    return mean, std, torch.randn(B, OUT, generator=g, dtype=torch.float64)


@pytest.fixture
def samples():
    return torch.randn(K, B, OUT, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 2 + 0.5


@pytest.mark.parametrize(("fair", "estimator"), [(True, "fair"), (False, "nrg")])
def test_crps_of_samples_is_that_of_scoringrules(case, samples, fair, estimator):
    y = case[2]
    expected = scoringrules.crps_ensemble(y.numpy(), samples.numpy(), m_axis=0, estimator=estimator)
    found = crps_samples(samples, y, fair=fair, reduction="none")
    assert found.shape == (B, OUT)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(crps_samples(samples, y, fair=fair), found.mean())


def test_fair_crps_of_few_samples_is_unbiased_and_the_plain_one_is_not():
    g = torch.Generator().manual_seed(0)
    samples = torch.randn(3, 40_000, 1, generator=g, dtype=torch.float64)
    y = torch.full((40_000, 1), 0.7, dtype=torch.float64)
    truth = crps_gaussian(torch.zeros_like(y), torch.ones_like(y), y, reduction="none")[0, 0]
    fair, plain = (crps_samples(samples, y, fair=f, reduction="none") for f in (True, False))
    error = fair.std() / math.sqrt(len(fair))
    assert abs(fair.mean() - truth) < 4 * error
    # The bias of the plain estimator is E|X - X'|/(2K) = 1/(3 sqrt(pi)).
    assert abs(plain.mean() - truth - 1 / (3 * math.sqrt(math.pi))) < 4 * error


def test_crps_of_samples_keeps_its_digits_in_float32_far_from_zero():
    g = torch.Generator().manual_seed(1)
    samples, y = torch.randn(1000, 5, 1, generator=g), torch.randn(5, 1, generator=g)
    near, far = crps_samples(samples, y), crps_samples(samples + 1000, y + 1000)
    assert abs(far - near) < 1e-4  # the inputs themselves are rounded to 6e-5


def test_closed_forms_of_crps_are_those_of_scoringrules(case):
    mean, std, y = case
    one = crps_gaussian(mean[0], std[0], y, reduction="none")
    expected = scoringrules.crps_normal(y.numpy(), mean[0].numpy(), std[0].numpy())
    torch.testing.assert_close(one, torch.from_numpy(expected), rtol=1e-10, atol=1e-12)
    mixture = crps_gaussian_mixture(mean, std, y, reduction="none")
    expected = scoringrules.crps_mixnorm(y.numpy(), mean.numpy(), std.numpy(), m_axis=0)
    torch.testing.assert_close(mixture, torch.from_numpy(np.asarray(expected)), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(crps_gaussian_mixture(mean[:1], std[:1], y, reduction="none"), one)


def test_crps_of_the_mixture_is_the_integral_of_its_definition(case):
    mean, std, y = (tensor[..., 0, 0].numpy() for tensor in case)
    z = np.linspace(-15, 15, 200_001)
    cdf = stats.norm.cdf((z[:, None] - mean) / std).mean(1)
    expected = np.trapezoid((cdf - (z >= y)) ** 2, z)
    found = crps_gaussian_mixture(case[0][:, :1, :1], case[1][:, :1, :1], case[2][:1, :1])
    assert abs(float(found) - expected) < 1e-4  # the grid is 1.5e-4 wide at the jump


def test_log_scores_are_those_of_scipy(case):
    mean, std, y = (tensor.numpy() for tensor in case)
    members = stats.norm.pdf(y, mean, std).prod(-1)
    found = nll_mixture(*case, reduction="none")
    np.testing.assert_allclose(found.numpy(), -np.log(members.mean(0)), rtol=1e-10)
    assert float(nll_mixture(*case)) == pytest.approx(float(found.mean()))
    matched = stats.norm.logpdf(y, mean.mean(0), np.sqrt(mean.var(0) + (std**2).mean(0))).sum(-1)
    np.testing.assert_allclose(nll_gaussian(*case, reduction="none").numpy(), -matched, rtol=1e-10)
    plain = stats.norm.logpdf(y, mean[0], std[0]).sum(-1)
    np.testing.assert_allclose(nll_gaussian(case[0][0], case[1][0], case[2], reduction="none"), -plain, rtol=1e-10)


def test_a_mixture_far_from_the_target_has_a_finite_nll():
    mean, y = torch.zeros(2, 1, 1), torch.full((1, 1), 100.0)
    assert float(nll_mixture(mean, torch.ones(2, 1, 1), y)) == pytest.approx(5000 + 0.5 * math.log(2 * math.pi))


def test_moment_matching_rmse_and_sharpness_on_numbers_by_hand():
    mean, std = torch.tensor([[[0.0]], [[2.0]]]), torch.tensor([[[1.0]], [[3.0]]])
    matched = moment_match(mean, std)
    assert matched[0].item() == 1 and matched[1].item() == pytest.approx(math.sqrt(1 + 5))
    assert float(rmse(torch.tensor([[0.0], [0.0]]), torch.tensor([[3.0], [1.0]]))) == pytest.approx(math.sqrt(5))
    assert float(sharpness(torch.tensor([1.0, 7.0]))) == 2
    far = torch.full((1, 2, 1), 4.0), torch.full((1, 2, 1), 2.0), torch.zeros(2, 1)
    assert float(crps_gaussian(*far)) == pytest.approx(float(crps_gaussian_mixture(*far)))


def test_bad_samples_are_counted(samples, case):
    samples[3, 2, 1] = samples[5, 0, 0] = torch.nan
    samples[1, 1, 1] = torch.inf
    with pytest.raises(UserError, match=r"samples has 2 NaN and 1 infinite of 1344 entries"):
        crps_samples(samples, case[2])


BAD = [
    (lambda m, s, y: nll_mixture(m, s, y.flatten()), "mean has shape"),
    (lambda m, s, y: nll_mixture(m, s * 0, y), "std has 105 of 105 entries at or below zero"),
    (lambda m, s, y: nll_mixture(m, s[:, :2], y), "std has shape"),
    (lambda m, s, y: nll_mixture(m, s, y * torch.nan), "y has 21 NaN"),
    (lambda m, s, y: nll_mixture(m[..., 0], s[..., 0], y[:, 0]), r"y has shape \(7,\): expected \(B, out\)"),
    (lambda m, s, y: nll_gaussian(m[0, :1], s[0, :1], y), "mean has shape"),
    (lambda m, s, y: crps_gaussian(m[0], -s[0], y), "std has 21 of 21"),
    (lambda m, s, y: crps_samples(m[:1], y), "at least 2 samples"),
    (lambda m, s, y: crps_samples(m, y[:1]), r"samples\[0\] has shape"),
    (lambda m, s, y: crps_samples(m.long(), y), "samples is torch.int64"),
    (lambda m, s, y: crps_samples(m, y, reduction="sum"), "reduction is 'sum'"),
    (lambda m, s, y: rmse(m[0, :1], y), "mean has shape"),
    (lambda m, s, y: sharpness(-s), "105 negative"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(case, call, message):
    with pytest.raises(UserError, match=message):
        call(*case)
