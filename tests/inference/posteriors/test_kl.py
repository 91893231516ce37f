"""The divergence of a variational posterior from a prior."""

from dataclasses import dataclass, field

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal
from torch.distributions import Normal as TorchNormal
from torch.distributions import kl_divergence as torch_kl

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.posteriors import (
    FullNormal,
    GaussianPrior,
    LowRankNormal,
    Normal,
    Posterior,
    StudentT,
    closed_form,
    kl,
    kl_divergence,
    monte_carlo_kl,
    register_kl,
)
from dynapilco.inference.priors import FanInNormal, NormalPrior, Prior
from tests.inference.harness import gen
from tests.inference.posteriors.test_families import FAMILIES, NORMALS, N, S, Uniform, covariance, name, some

LAYOUT = ParameterLayout(("0.weight", "0.bias"), (torch.Size((1, 3)), torch.Size((1,))))
PRIORS = [NormalPrior(0.7), FanInNormal(output_scale=2.0, output_bias_scale=0.3)]


@dataclass(frozen=True)
class Logistic(Prior):
    """A prior that nothing is registered for."""

    def log_prob(self, params, layout):
        return (-params - 2 * torch.nn.functional.softplus(-params)).sum(-1)

    def sample(self, layout, size, generator):
        raise NotImplementedError

    def std(self, layout):
        return torch.full((layout.total,), torch.pi / 3**0.5)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("q", NORMALS, ids=name)
def test_closed_forms_are_those_of_torch(q, prior):
    v = some(q)
    std = prior.std(LAYOUT).double()
    mean = torch.zeros(S, N).double()
    expected = torch_kl(
        MultivariateNormal(v["params"], covariance(q, v)), MultivariateNormal(mean, torch.diag(std**2).expand(S, N, N))
    )
    torch.testing.assert_close(kl_divergence(q, v, prior, LAYOUT), expected, atol=1e-5, rtol=1e-6)  # std is float32


def check_monte_carlo(q, prior, estimate=monte_carlo_kl):
    v = some(q)
    theta = q.sample(v, 20_000, gen(1))
    exact = kl_divergence(q, v, prior, LAYOUT)
    spread = prior.log_prob(theta.flatten(0, 1), LAYOUT).view(S, -1).std(1) / 20_000**0.5
    assert ((estimate(q, v, prior, LAYOUT, theta) - exact).abs() < 4 * spread).all()


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("q", FAMILIES, ids=name)
def test_monte_carlo_agrees_with_the_closed_form_within_4_standard_errors(q, prior):
    check_monte_carlo(q, prior)


@pytest.mark.parametrize("wrong", [lambda kl, v: kl / N, lambda kl, v: kl + 0.5 * N, lambda kl, v: -kl])
def test_the_check_notices_a_mean_a_lost_constant_and_a_sign(wrong):
    with pytest.raises(AssertionError):
        check_monte_carlo(Normal(), PRIORS[0], lambda q, v, *rest: wrong(monte_carlo_kl(q, v, *rest), v))


@pytest.mark.parametrize("q", [*FAMILIES, Uniform()], ids=name)
def test_any_other_pair_is_estimated_without_further_arguments(q):
    v = some(q)
    value = kl_divergence(q, v, Logistic(), LAYOUT)
    assert closed_form(q, Logistic()) is None
    assert value.shape == (S,) and torch.equal(value, kl_divergence(q, v, Logistic(), LAYOUT))
    precise = kl_divergence(q, v, Logistic(), LAYOUT, 20_000, gen(3))
    assert ((value - precise).abs() < 1.0).all()  # 64 samples: a standard error of about 0.2
    assert not torch.equal(precise, kl_divergence(q, v, Logistic(), LAYOUT, 20_000, gen(4)))
    with pytest.raises(UserError, match="samples=0"):
        kl_divergence(q, v, Logistic(), LAYOUT, 0)


def test_the_estimate_uses_given_samples_and_is_differentiable():
    q, v = Normal(), {k: t.requires_grad_(True) for k, t in some(Normal()).items()}
    theta = q.sample(v, 200_000, gen(2))
    value = kl_divergence(q, v, Logistic(), LAYOUT, theta=theta)
    grads = torch.autograd.grad(value.sum(), list(v.values()))
    assert torch.equal(value, monte_carlo_kl(q, v, Logistic(), LAYOUT, theta))
    points = torch.linspace(-9, 9, 4001).double()  # by quadrature, a weight at a time
    std = q.std(v).unsqueeze(-1)
    grid = v["params"].unsqueeze(-1) + std * points
    density = TorchNormal(0.0, 1.0).log_prob(points).exp()
    log_prior = -grid - 2 * torch.nn.functional.softplus(-grid)
    exact = -q.entropy(v) - torch.trapezoid(density * log_prior, points).sum(-1)
    expected = torch.autograd.grad(exact.sum(), list(v.values()))
    for grad, reference in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, reference, atol=0.01, rtol=0)  # standard error of about .001


def test_the_most_specific_registration_wins(monkeypatch):
    monkeypatch.setattr(kl, "_FUNCTIONS", dict(kl._FUNCTIONS))
    kl._find.cache_clear()

    class Mine(Normal):
        pass

    class Narrow(NormalPrior):
        pass

    def constant(value):
        return lambda q, v, prior, layout: torch.full((S,), float(value))

    def asked(q, prior):
        return kl_divergence(q, some(Normal()), prior, LAYOUT)[0].item()

    exact = asked(Normal(), NormalPrior())
    assert asked(Mine(), Narrow()) == exact  # inherited
    register_kl(Posterior, Prior)(constant(1))
    assert asked(Mine(), Logistic()) == 1 and asked(Mine(), Narrow()) == exact
    register_kl(Normal, NormalPrior)(constant(2))
    assert asked(Mine(), Narrow()) == 2 and asked(Normal(), FanInNormal()) != 2
    register_kl(Mine, Prior)(constant(3))
    register_kl(Mine, NormalPrior)(constant(4))
    assert asked(Mine(), Narrow()) == 4 and asked(Mine(), Logistic()) == 3 and asked(Normal(), Narrow()) == 2
    kl._find.cache_clear()


def test_registration_refuses_what_is_no_class_of_the_kind():
    with pytest.raises(UserError, match="posterior="):
        register_kl(int, Prior)
    with pytest.raises(UserError, match="prior="):
        register_kl(Normal, Normal)
    assert {type(q) for q in FAMILIES} == {a for a, b in kl._FUNCTIONS if b is GaussianPrior}


def test_gaussian_priors_need_neither_a_base_class_nor_a_hash():
    @dataclass(frozen=True)
    class Listed(Prior):
        gaussian = True
        scales: list = field(default_factory=lambda: [0.7] * N)

        def log_prob(self, params, layout):
            return Independent(TorchNormal(torch.zeros(N), torch.tensor(self.scales)), 1).log_prob(params)

        def sample(self, layout, size, generator):
            raise NotImplementedError

        def std(self, layout):
            return torch.tensor(self.scales)

    for q in (Normal(), StudentT(), LowRankNormal(), FullNormal()):
        assert closed_form(q, Listed()) is not None
        torch.testing.assert_close(
            kl_divergence(q, some(q), Listed(), LAYOUT), kl_divergence(q, some(q), NormalPrior(0.7), LAYOUT)
        )
