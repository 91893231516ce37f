"""The exact marginal density of the horseshoe, and the special function below it."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate

from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors import HorseshoePrior, horseshoe
from dynapilco.inference.priors.exponential_integral import log_scaled_e1
from tests.inference.harness import gen

mpmath.mp.dps = 40
POINTS = [10.0 ** (k / 3) for k in range(-30, 13)] + [1.9999, 2.0, 2.0001]
ONE = ParameterLayout(("w",), (torch.Size((1,)),))


def reference(u):
    """Log(e^u E1(u)) and its two derivatives to 40 digits."""
    u = mpmath.mpf(u)
    g = mpmath.e**u * mpmath.e1(u)
    first = g - 1 / u
    return mpmath.log(g), first / g, (first + 1 / u**2) / g - (first / g) ** 2


def relative_errors(dtype):
    u = torch.tensor(POINTS, dtype=dtype, requires_grad=True)
    value = log_scaled_e1(u)
    (first,) = torch.autograd.grad(value.sum(), u, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), u)
    assert value.dtype == first.dtype == second.dtype == dtype
    truth = [reference(point) for point in u.tolist()]
    errors = [
        max(abs(float(mpmath.e ** (mpmath.mpf(v) - t[0]) - 1)) for v, t in zip(value.tolist(), truth, strict=True))
    ]
    for order, found in ((1, first), (2, second)):
        errors.append(max(abs(float(v / t[order] - 1)) for v, t in zip(found.tolist(), truth, strict=True)))
    return errors


def test_scaled_exponential_integral_and_two_derivatives():
    assert max(relative_errors(torch.float64)) < 1e-9


def test_in_float32():
    """Only the rounding of the answer is left: 6e-8 of log(e^u E1) is 6e-7 of e^u E1 at u = 1e4."""
    value, first, second = relative_errors(torch.float32)
    assert value < 1e-6 and first < 1e-6 and second < 1e-6


def test_gradients_of_gradients_by_torch():
    u = torch.tensor([1e-3, 0.5, 1.99, 2.01, 30.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_scaled_e1, u, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(log_scaled_e1, u)


def test_under_function_transforms():
    weights = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    hessian = torch.func.vmap(torch.func.hessian(HorseshoePrior().density))(weights)
    torch.testing.assert_close(hessian, -HorseshoePrior().curvature(weights.unsqueeze(-1), ONE)[:, 0])


def test_density_lies_between_its_known_bounds():
    """Theorem 1 of Carvalho, Polson and Scott (2010)."""
    w = torch.tensor(np.logspace(-6, 1.5, 200)).unsqueeze(-1)
    density, constant = HorseshoePrior().log_prob(w, ONE).exp(), (2 * math.pi**3) ** -0.5
    w = w[:, 0]
    assert (density > 0.5 * constant * torch.log1p(4 / w**2)).all()
    assert (density < constant * torch.log1p(2 / w**2)).all()


def test_against_the_hierarchy():
    """p(w) = int N(w; 0, scale^2 l^2) 2 / (pi (1 + l^2)) dl, by quadrature over l = tan(t)."""
    for w in (1e-3, 0.1, 1.0, 7.0):

        def integrand(t, w=w):
            s = 0.4 * math.tan(t)
            return math.exp(-0.5 * (w / s) ** 2) / (s * math.sqrt(2 * math.pi)) * 2 / math.pi

        truth, _ = integrate.quad(integrand, 0, math.pi / 2, epsabs=1e-12, epsrel=1e-10, limit=400, points=[w])
        found = HorseshoePrior(0.4).log_prob(torch.tensor([[w]], dtype=torch.float64), ONE).exp().item()
        assert found == pytest.approx(truth, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_and_huge_weights_have_finite_densities_and_gradients(dtype):
    """Biases that start at 0 must not stop a fit."""
    w = torch.tensor([[0.0], [1e-30], [2e-10], [-1e-5], [1e4], [1e15]], dtype=dtype, requires_grad=True)
    value = HorseshoePrior(0.5).log_prob(w, ONE)
    (gradient,) = torch.autograd.grad(value.sum(), w, create_graph=True)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
    assert torch.isfinite(HorseshoePrior(0.5).curvature(w, ONE)).all()
    assert gradient[0] == 0 and gradient[3] > 0 > gradient[4]
    assert (value[:2] >= value[2]).all()


def test_half_the_mass_within_the_spread_that_is_claimed():
    sample = HorseshoePrior(2.0).sample(ONE, 200_000, gen(1))
    share = (sample.abs() < 2.0 * horseshoe.CENTRAL).double().mean().item()
    assert share == pytest.approx(0.6826895, abs=5 * 0.00104)  # 5 sd of a share of 200,000 draws
