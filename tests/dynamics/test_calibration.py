"""Coverage and log density of predictions."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import kstest, norm

from dynapilco.dynamics import DynamicsDraw, Geometry, Transitions, make_stepping
from dynapilco.dynamics.calibration import (
    horizon,
    interval,
    mixture_cdf,
    mixture_crps,
    mixture_log_density,
    one_step,
    particle_crps,
    spread,
)
from dynapilco.inference import Gaussian, StackedNetwork, mlp
from dynapilco.inference.draws import make_draw

S, T = 10, 800


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def test_interval_of_a_gaussian():
    low, high = interval(2 + 3 * torch.randn(100_000, 1, 2, generator=gen()))
    assert low.shape == (1, 2)
    torch.testing.assert_close(low, torch.full((1, 2), 2 - 3 * 1.96), atol=0.1, rtol=0)
    torch.testing.assert_close(high, torch.full((1, 2), 2 + 3 * 1.96), atol=0.1, rtol=0)


def test_interval_leaves_out_lost_particles():
    samples = torch.randn(50, 3, 2, generator=gen())
    holes = torch.cat([samples, torch.full((5, 3, 2), float("nan"))])
    for one, other in zip(interval(samples), interval(holes), strict=True):
        torch.testing.assert_close(one, other)


def test_mixture_density_against_scipy():
    mean, std = torch.randn(S, T, 3, generator=gen()), 0.2 + torch.rand(S, T, 3, generator=gen(1))
    y = torch.randn(T, 3, generator=gen(2))
    truth = logsumexp(norm.logpdf(y.numpy(), mean.numpy(), std.numpy()).sum(-1), axis=0) - math.log(S)
    np.testing.assert_allclose(mixture_log_density(mean, std, y).numpy(), truth, rtol=1e-4, atol=1e-4)


def known_draw(functions_std, noise_std):
    """A dynamics draw whose outputs are constants c_s ~ N(0, functions_std^2) with noise noise_std."""
    geometry = Geometry(2, 1)
    network = StackedNetwork(mlp(3, 2, (4,)))
    params = torch.zeros(S, network.layout.total)
    z = torch.randn(S, 2, generator=gen(5))
    z = (z - z.mean(0)) / z.std(0)
    params[:, -2:] = functions_std * z
    functions = make_draw(network, params, torch.full((S, 2), noise_std), Gaussian())
    return DynamicsDraw(functions, geometry, make_stepping(geometry, "delta"), None)


def observed(outputs):
    n = len(outputs)
    x = torch.randn(n, 2, generator=gen(6))
    return Transitions(x, torch.zeros(n, 1), x + outputs, torch.zeros(n), torch.zeros(n, dtype=torch.int64))


def test_one_step_coverage_and_density_of_a_calibrated_model():
    noise = 0.3
    truth = noise * torch.randn(T, 2, generator=gen(7))
    score = one_step(known_draw(0.0, noise), observed(truth), torch.ones(2), gen())
    assert score.coverage == pytest.approx(0.95, abs=0.02)
    assert score.nll == pytest.approx(-norm.logpdf(truth.numpy(), 0, noise).sum(-1).mean(), abs=0.01)
    assert score.sharpness == pytest.approx(2 * 1.96 * noise, abs=0.02)
    assert score.crps == pytest.approx(noise / math.sqrt(math.pi), abs=0.01)  # what a calibrated Gaussian expects
    in_halves = one_step(known_draw(0.0, noise), observed(truth), torch.full((2,), 0.5), gen())
    assert (in_halves.crps, in_halves.sharpness) == pytest.approx((2 * score.crps, 2 * score.sharpness), rel=1e-4)


def test_the_pit_is_the_predictive_distribution_at_what_came():
    truth = 0.3 * torch.randn(T, 2, generator=gen(7))
    pit = one_step(known_draw(0.0, 0.3), observed(truth), torch.ones(2), gen()).pit.numpy()
    np.testing.assert_allclose(pit, norm.cdf(truth.numpy() / 0.3), atol=1e-4)  # hence uniform
    mixed = mixture_cdf(torch.tensor([[[0.0]], [[2.0]]]), torch.tensor([[[1.0]], [[0.5]]]), torch.tensor([[1.5]]))
    assert mixed.item() == pytest.approx((norm.cdf(1.5) + norm.cdf(-1.0)) / 2, abs=1e-6)


def test_epistemic_spread_widens_the_interval():
    truth = 0.3 * torch.randn(T, 2, generator=gen(7))
    wide = one_step(known_draw(1.0, 0.3), observed(truth), torch.ones(2), gen())
    narrow = one_step(known_draw(0.0, 0.05), observed(truth), torch.ones(2), gen())
    right = one_step(known_draw(0.0, 0.3), observed(truth), torch.ones(2), gen())
    assert wide.coverage > 0.98
    assert narrow.coverage == pytest.approx(2 * norm.cdf(1.96 / 6) - 1, abs=0.03)
    assert right.nll < min(wide.nll, narrow.nll)


def test_density_is_in_units_of_the_scale():
    truth = observed(0.3 * torch.randn(T, 2, generator=gen(7)))
    draw = known_draw(0.5, 0.3)
    plain = one_step(draw, truth, torch.ones(2), gen())
    scaled = one_step(draw, truth, torch.tensor([10.0, 0.1]), gen())
    halved = one_step(draw, truth, torch.tensor([2.0, 1.0]), gen())
    assert scaled.nll == pytest.approx(plain.nll, abs=1e-4)
    assert halved.nll == pytest.approx(plain.nll - math.log(2), abs=1e-4)
    assert halved.coverage == plain.coverage


def test_the_horizons_coverage_counts_pairs():
    particles = torch.linspace(0, 1, 101).reshape(101, 1, 1).expand(101, 4, 2)
    observed = torch.tensor([[0.5, 0.02], [0.026, 0.974], [0.976, -3.0], [float("nan"), 0.5]])
    unit = torch.ones(2)
    assert horizon(particles, observed, unit).coverage == pytest.approx(4 / 8)
    assert horizon(particles, torch.full((4, 2), 0.5), unit).coverage == 1
    assert horizon(particles, torch.full((4, 2), 2.0), unit).coverage == 0


def test_the_mixtures_crps_is_the_integral_of_its_definition():
    mean, std = (
        torch.tensor([[[0.3, -1.0]], [[1.5, 2.0]], [[0.0, 0.2]]]),
        torch.tensor([0.5, 1.0, 0.1]).reshape(3, 1, 1),
    )
    y = torch.tensor([[0.7, -2.0]])
    grid = torch.linspace(-12, 14, 400_001, dtype=torch.float64).reshape(-1, 1)
    below = norm.cdf(grid[None].numpy(), mean.double().numpy(), std.double().numpy()).mean(0)
    truth = np.trapezoid((below - (grid >= y).numpy()) ** 2, grid[:, 0].numpy(), axis=0)
    np.testing.assert_allclose(mixture_crps(mean, std.expand(3, 1, 2), y)[0].numpy(), truth, atol=1e-4)


def test_the_particles_crps_is_the_double_sum_and_does_not_depend_on_their_number():
    particles, y = torch.randn(7, 3, 2, generator=gen(3)).double(), torch.randn(3, 2, generator=gen(4)).double()
    apart = (particles[:, None] - particles[None]).abs().sum((0, 1)) / (2 * 7 * 6)
    truth = (particles - y).abs().mean(0) - apart
    torch.testing.assert_close(particle_crps(particles, y), truth)
    lost = torch.cat([particles, torch.full((2, 3, 2), torch.nan)])
    torch.testing.assert_close(particle_crps(lost, y), truth)
    many = torch.randn(5, 40_000, 1, generator=gen(5)).double()  # fair: the mean over small samples is the true score
    expected = float(mixture_crps(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), torch.full((1, 1), 0.5)))
    assert float(particle_crps(many, torch.full((40_000, 1), 0.5)).mean()) == pytest.approx(expected, abs=0.01)


def test_the_horizons_scores_are_those_of_a_gaussian_in_units_of_a_column():
    particles = 3 + 2 * torch.randn(4_000, 50, 1, generator=gen(6)).double()
    observed = 3 + 2 * torch.randn(50, 1, generator=gen(7)).double()
    score = horizon(particles, observed, torch.tensor([2.0]))
    z = (observed[:, 0].numpy() - 3) / 2
    assert score.nll == pytest.approx(-norm.logpdf(z).mean(), abs=0.02)
    assert score.sharpness == pytest.approx(2 * 1.96, abs=0.1)
    crps = mixture_crps(torch.zeros(1, 50, 1), torch.ones(1, 50, 1), torch.as_tensor(z).float()[:, None])
    assert score.crps == pytest.approx(float(crps.mean()), abs=0.02)
    gone = torch.full((5, 50, 1), torch.nan).double()
    again = horizon(torch.cat([particles, gone]), observed, torch.tensor([2.0]))
    assert (again.nll, again.crps) == pytest.approx((score.nll, score.crps))


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_pit_is_uniform_when_the_model_is_right_and_not_when_it_is_not(noise):
    draw = known_draw(functions_std=0.0, noise_std=1.0)
    episode = observed(noise * torch.randn(T, 2, generator=gen(9)))
    pit = one_step(draw, episode, torch.ones(2), gen(10)).pit
    assert pit.shape == (T, 2)
    outputs = (episode.next_states - episode.states).numpy()
    np.testing.assert_allclose(pit.numpy(), norm.cdf(outputs), atol=1e-5)
    assert (kstest(pit.flatten().numpy(), "uniform").pvalue > 0.01) == (noise == 1.0)


def test_pit_is_of_the_mixture_of_functions():
    draw = known_draw(functions_std=2.0, noise_std=0.3)
    means = draw.outputs(torch.zeros(S, 1, 2), torch.zeros(S, 1, 1))[:, 0]
    episode = observed(torch.tensor([[0.5, -0.5]]))
    pit = one_step(draw, episode, torch.ones(2), gen(10)).pit[0]
    truth = norm.cdf((np.array([0.5, -0.5]) - means.numpy()) / 0.3).mean(0)
    np.testing.assert_allclose(pit.numpy(), truth, atol=1e-5)


@pytest.mark.parametrize("particles", [2, 4, 400])
def test_spread_finds_the_known_parts_without_bias(particles):
    functions = 4000 // particles + 4000
    between = 0.3 * torch.randn(1, functions, 1, 2, generator=gen(1))
    within = torch.tensor([0.5, 2.0]) * torch.randn(1, functions, particles, 2, generator=gen(2))
    epistemic, aleatoric = spread(between + within)
    assert epistemic.shape == aleatoric.shape == (1, 2)
    np.testing.assert_allclose(aleatoric[0], [0.5, 2.0], rtol=0.05)
    assert epistemic[0, 0].item() == pytest.approx(0.3, rel=0.15)
    assert epistemic[0, 1].item() == pytest.approx(0.3, rel=0.2) or particles < 400  # few particles: drowned in noise


def test_spread_of_functions_that_agree_is_none_and_of_a_single_one_too():
    noise = torch.randn(3, 2000, 8, 1, generator=gen(3))
    epistemic, aleatoric = spread(noise)
    assert (epistemic < 0.1).all()  # the means of 8 particles alone lie 0.35 apart
    np.testing.assert_allclose(aleatoric, 1, rtol=0.05)
    epistemic, aleatoric = spread(noise[:, :1])
    assert (epistemic == 0).all() and (aleatoric > 0).all()


def test_spread_leaves_out_lost_particles():
    particles = torch.randn(2, 50, 8, 1, generator=gen(4))
    some = particles.clone()
    some[:, :5] = torch.nan  # whole functions
    for one, other in zip(spread(particles[:, 5:]), spread(some), strict=True):
        torch.testing.assert_close(one, other)
    some[1] = torch.nan
    epistemic, aleatoric = spread(some)
    assert torch.isfinite(epistemic[0]).all() and torch.isfinite(aleatoric[0]).all()
    assert aleatoric[1].isnan().all()
