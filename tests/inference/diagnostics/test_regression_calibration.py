"""PIT, coverage and calibration error: uniform where they must be, and off by a known amount where they must not."""

import math

import pytest
import torch
from scipy import stats

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics import (
    LEVELS,
    calibration_error,
    cdf_gaussian_mixture,
    coverage_curve,
    interval_coverage,
    pit,
    pit_from_cdf,
    quantile_curve,
)

N = 4000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def p_uniform(values):
    return stats.kstest(values.flatten().numpy(), "uniform").pvalue


@pytest.mark.parametrize("count", [1, 4, 50])
def test_the_randomised_pit_of_exchangeable_samples_is_uniform_for_any_number_of_them(count):
    g = generator(1)
    values = pit(torch.randn(count, N, 1, generator=g), torch.randn(N, 1, generator=g), g)
    assert p_uniform(values) > 0.01
    assert values.min() > 0 and values.max() < 1


def test_the_randomised_pit_of_counts_with_many_ties_is_uniform():
    g = generator(2)
    draw = torch.poisson(torch.full((9, N, 1), 1.5), generator=g)
    values = pit(draw[1:], draw[0], g)
    assert p_uniform(values) > 0.01
    assert p_uniform(pit(draw[1:], draw[0])) < 1e-6  # without a generator the mid-ranks are on a grid


def test_the_pit_of_samples_counts_ranks():
    samples = torch.tensor([1.0, 2.0, 2.0, 5.0], dtype=torch.float64)[:, None]
    for y, expected in ((0.0, 0.5 / 5), (2.0, 2.5 / 5), (3.0, 3.5 / 5), (9.0, 4.5 / 5)):
        found = pit(samples, torch.tensor([y], dtype=torch.float64))
        assert found.dtype == torch.float64 and found.item() == pytest.approx(expected, abs=1e-12)


def test_the_pit_from_cdf_values_of_counts_is_uniform_only_when_randomised():
    g = generator(3)
    rate = torch.rand(N, generator=g, dtype=torch.float64) * 3 + 0.2
    y = torch.poisson(rate, generator=g)
    poisson = stats.poisson(rate.numpy())
    cdf, before = (torch.from_numpy(poisson.cdf(k)) for k in (y.numpy(), y.numpy() - 1))
    assert p_uniform(pit_from_cdf(cdf, before, g)) > 0.01
    assert p_uniform(pit_from_cdf(cdf, before)) < 1e-6
    assert p_uniform(pit_from_cdf(cdf)) < 1e-6
    torch.testing.assert_close(pit_from_cdf(cdf, before), (cdf + before) / 2)


def test_the_cdf_of_a_mixture_is_that_of_scipy():
    g = generator(4)
    mean, std = torch.randn(3, 5, 2, generator=g, dtype=torch.float64), 0.5 + torch.rand(3, 5, 2, generator=g).double()
    y = torch.randn(5, 2, generator=g, dtype=torch.float64) * 3
    expected = stats.norm.cdf(y.numpy(), mean.numpy(), std.numpy()).mean(0)
    torch.testing.assert_close(cdf_gaussian_mixture(mean, std, y), torch.from_numpy(expected), rtol=1e-10, atol=1e-14)


def test_interval_coverage_includes_both_ends():
    low, high = torch.tensor([[0.0]] * 4), torch.tensor([[1.0]] * 4)
    y = torch.tensor([[0.0], [1.0], [1.5], [-0.5]])
    assert float(interval_coverage(low, high, y)) == 0.5
    assert interval_coverage(low, high, y, reduction="none").flatten().tolist() == [1, 1, 0, 0]


def test_curves_on_values_by_hand():
    values = torch.tensor([0.05, 0.3, 0.5, 0.95])
    assert coverage_curve(values, [0.5, 0.85]).flatten().tolist() == [0.5, 0.5]
    assert coverage_curve(values, [0.95]).item() == 1.0
    assert quantile_curve(values, [0.1, 0.5, 0.9]).flatten().tolist() == [0.25, 0.75, 0.75]
    assert coverage_curve(torch.rand(7, 3, generator=generator()), LEVELS).shape == (len(LEVELS), 3)


def test_coverage_of_a_gaussian_with_half_its_true_sd_is_the_known_one():
    y = torch.randn(20_000, 1, generator=generator(5), dtype=torch.float64)
    cdf = cdf_gaussian_mixture(torch.zeros(1, *y.shape).double(), torch.full((1, *y.shape), 0.5).double(), y)
    found = coverage_curve(cdf, [0.9]).item()
    expected = 2 * stats.norm.cdf(0.5 * stats.norm.ppf(0.95)) - 1
    assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / len(y))


def test_the_calibration_error_of_the_definition_by_hand():
    values = torch.tensor([[0.2], [0.4], [0.6], [0.6]])
    by_hand = [(0.25 - 0.25) ** 2, (0.5 - 0.5) ** 2, (0.75 - 1.0) ** 2]
    assert float(calibration_error(values, [0.25, 0.5, 0.75])) == pytest.approx(sum(by_hand) / 3)
    assert float(calibration_error(values, [0.25, 0.5, 0.75], [1.0, 1.0, 1.0])) == pytest.approx(sum(by_hand))
    weighted = calibration_error(values, [0.25, 0.5, 0.75], [0.2, 0.2, 0.6])
    assert float(weighted) == pytest.approx(0.6 * by_hand[2])


def test_calibration_errors_of_outputs_do_not_cancel():
    uniform = torch.linspace(0.0005, 0.9995, 1000)
    low, high = uniform.square(), 1 - uniform.square()
    together = calibration_error(torch.stack([low, high], 1))
    assert float(together) == pytest.approx(float(calibration_error(low) + calibration_error(high)) / 2)
    assert float(together) > 0.02
    assert float(calibration_error(uniform)) < 1e-6


BAD = [
    (lambda: pit_from_cdf(torch.tensor([1.2])), "cdf has 1 of 1 entries outside"),
    (lambda: pit_from_cdf(torch.tensor([0.2]), torch.tensor([0.4])), "cdf_before exceeds cdf in 1 of 1"),
    (lambda: pit(torch.tensor([[torch.nan]]), torch.tensor([0.0])), "samples has 1 NaN"),
    (lambda: interval_coverage(torch.ones(2), torch.zeros(2), torch.zeros(2)), "low exceeds high in 2 of 2"),
    (lambda: interval_coverage(torch.ones(1), torch.ones(2), torch.zeros(2)), "low has shape"),
    (lambda: coverage_curve(torch.rand(5, generator=generator()), [0.5, 1.0]), "levels is"),
    (lambda: coverage_curve(torch.rand(5, generator=generator()), []), "levels is"),
    (lambda: calibration_error(torch.tensor([2.0])), "pit has 1 of 1 entries outside"),
    (lambda: calibration_error(torch.tensor([0.5]), [0.5], [1.0, 2.0]), "weights has shape"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
