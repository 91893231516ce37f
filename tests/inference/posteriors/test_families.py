"""Variational families: densities, moments, samples and their registration."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.posteriors import (
    FullNormal,
    LowRankNormal,
    Normal,
    Posterior,
    StudentT,
    make_posterior,
    register_posterior,
)
from dynapilco.inference.posteriors.base import POSTERIORS, inverse_softplus, normal_noise
from tests.inference.harness import gen, rand

S, N = 2, 4
FAMILIES = [Normal(), StudentT(df=6.0), StudentT(df=6.0, learn_df=True), LowRankNormal(rank=2), FullNormal()]
NORMALS = [Normal(), LowRankNormal(rank=2), FullNormal()]


def name(q):
    return type(q).__name__ + ("+df" if getattr(q, "learn_df", False) else "")


def some(q, seed=0):
    """A variational with nothing special about it."""
    variational = q.init(rand(S, N, seed=seed), torch.linspace(0.1, 0.7, N).double(), gen(seed))
    shift = gen(seed + 1)
    return {
        k: v + 0.4 * torch.randn(v.shape, generator=shift, dtype=v.dtype) if k != "raw_df" else v + 0.3
        for k, v in variational.items()
    }


def covariance(q, v) -> Tensor:
    """The exact covariance (S, N, N) of a normal family, written out."""
    d = torch.log1p(v["rho"].exp())
    if isinstance(q, Normal):
        return torch.diag_embed(d**2)
    if isinstance(q, LowRankNormal):
        c = d.unsqueeze(-1) * v["factor"]
        return torch.diag_embed(d**2) + c @ c.mT
    chol = torch.stack([d[s].diag() @ (torch.eye(N).double() + v["lower"][s].tril(-1)) for s in range(S)])
    return chol @ chol.mT


def reference(q, v):
    """The same distribution by torch."""
    if isinstance(q, StudentT):
        df = 2 + torch.log1p(v["raw_df"].exp()) if q.learn_df else torch.full((S, 1), q.df).double()
        t = torch.distributions.StudentT(df.expand(S, N), v["params"], torch.log1p(v["rho"].exp()))
        return torch.distributions.Independent(t, 1)
    return torch.distributions.MultivariateNormal(v["params"], covariance(q, v))


@pytest.mark.parametrize("q", FAMILIES, ids=name)
def test_densities_and_moments_are_those_of_torch(q):
    v, theta = some(q), rand(S, 5, N, seed=9)
    known = reference(q, v)
    expected = torch.stack([known.log_prob(theta[:, k]) for k in range(5)], 1)
    torch.testing.assert_close(q.log_prob(v, theta), expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(q.std(v), known.variance.sqrt(), atol=1e-12, rtol=1e-10)
    assert q.mean(v) is v["params"]
    if not isinstance(q, StudentT):
        torch.testing.assert_close(q.entropy(v), known.entropy(), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("q", FAMILIES, ids=name)
def test_entropy_is_the_mean_surprise_of_its_own_samples(q):
    v = some(q)
    surprise = -q.log_prob(v, q.sample(v, 20_000, gen(3)))
    error = surprise.std(1) / 20_000**0.5
    assert ((surprise.mean(1) - q.entropy(v)).abs() < 4 * error).all()


def check_ellipsoid(q):
    """94-96 % of 20,000 draws lie inside the 95 % ellipsoid (standard error .15 %), and their mean is the location."""
    v = some(q)
    offset = q.sample(v, 20_000, gen(5)) - v["params"].unsqueeze(1)
    root = torch.linalg.cholesky(covariance(q, v))
    squares = torch.linalg.solve_triangular(root, offset.mT, upper=False).square().sum(1)
    inside = (squares < 9.487729).double().mean(1)  # chi2 of 4 degrees of freedom
    assert ((inside > 0.94) & (inside < 0.96)).all()
    assert (offset.mean(1).abs() < 4 * q.std(v) / 20_000**0.5).all()


@pytest.mark.parametrize("q", NORMALS, ids=name)
def test_draws_fill_the_95_percent_ellipsoid(q):
    check_ellipsoid(q)


@pytest.mark.parametrize("cls", [Normal, LowRankNormal, FullNormal])
def test_the_check_notices_a_variance_in_place_of_a_deviation(cls, monkeypatch):
    original = cls.sample

    def wrong(self, v, *args, **kwargs):
        loc = v["params"].unsqueeze(1)
        return loc + (original(self, v, *args, **kwargs) - loc) * 1.05

    monkeypatch.setattr(cls, "sample", wrong)
    with pytest.raises(AssertionError):
        check_ellipsoid(cls(rank=2) if cls is LowRankNormal else cls())


def test_student_t_samples_have_its_tails():
    q = StudentT(df=4.0)
    v = q.init(torch.zeros(1, 1).double(), torch.ones(1).double(), gen())
    z = q.sample(v, 50_000, gen(1))[0, :, 0] / torch.nn.functional.softplus(v["rho"][0, 0])
    inside = (z.abs() < 2.776445).double().mean()  # the 97.5 % point of t with df = 4
    assert inside.item() == pytest.approx(0.95, abs=4 * (0.05 * 0.95 / 50_000) ** 0.5)


def test_the_gradient_of_a_learned_df_is_that_of_the_second_moment():
    q = StudentT(df=12.0, learn_df=True)
    v = q.init(torch.zeros(400, 1).double(), torch.ones(1).double(), gen())
    raw = v["raw_df"].requires_grad_(True)
    width = torch.nn.functional.softplus(v["rho"][0, 0])
    moment = q.sample(v, 500, gen(2)).square().mean((1, 2))
    (grad,) = torch.autograd.grad(moment.sum(), raw)
    # d/d df of width^2 df / (df - 2), times d df / d raw
    expected = -2 * width**2 / (12 - 2) ** 2 * torch.sigmoid(raw[0, 0].detach())
    assert abs(grad.mean() - expected) < 4 * grad.std() / 400**0.5
    assert grad.std() / 400**0.5 < 0.2 * expected.abs()


@pytest.mark.parametrize("q", FAMILIES, ids=name)
@pytest.mark.parametrize("samples", [1, 4, 5])
def test_antithetic_samples_mirror_at_the_location_and_every_tensor_has_a_gradient(q, samples):
    v = {k: t.requires_grad_(True) for k, t in some(q).items()}
    theta = q.sample(v, samples, gen(), antithetic=True)
    assert theta.shape == (S, samples, N)
    half = (samples + 1) // 2
    offset = theta - v["params"].unsqueeze(1)
    torch.testing.assert_close(offset[:, half:], -offset[:, : samples - half], atol=1e-12, rtol=1e-12)
    assert not torch.equal(*q.sample(v, 2, gen()).unbind(1))
    grads = torch.autograd.grad(theta.square().sum(), list(v.values()))
    assert all(grad.abs().sum() > 0 for grad in grads)
    assert set(v) == {"params", *q.tensors}


@pytest.mark.parametrize("q", FAMILIES, ids=name)
def test_init_has_the_scale_asked_for_in_the_dtype_of_the_location(q):
    scale = torch.tensor([1e-3, 0.1, 2.0, 0.5])
    v = q.init(torch.zeros(3, N), scale, gen())
    assert all(t.dtype == torch.float32 for t in v.values())
    assert q.sample(v, 3, gen()).dtype == torch.float32
    tolerance = 0.25 if isinstance(q, LowRankNormal) else 1e-4  # a tenth of its variance is random
    torch.testing.assert_close(q.std(v), scale.expand(3, N), rtol=tolerance, atol=0)


def test_noise_helpers():
    value = torch.tensor([1e-6, 0.1, 5.0, 40.0]).double()
    torch.testing.assert_close(torch.nn.functional.softplus(inverse_softplus(value)), value)
    assert normal_noise((2, 3, 4), value, gen()).dtype == torch.float64


def test_too_many_weights_for_a_full_covariance():
    assert FullNormal().refusal(5000) is None
    with pytest.raises(UserError, match=r"5001 weights needs 25,010,001 numbers.*low_rank_normal"):
        FullNormal().init(torch.zeros(1, 5001), torch.ones(5001), gen())


@pytest.mark.parametrize(
    ("spec", "kwargs", "message"),
    [
        ("normall", {}, "unknown posterior 'normall'.*normal"),
        ("low_rank_normal", {"ranks": 3}, "no option 'ranks': valid options are rank"),
        ("low_rank_normal", {"rank": 0}, "rank=0"),
        ("normal", {"rank": 3}, "no option 'rank': it has none"),
        ("student_t", {"df": 2.0}, "df=2.0"),
        ("student_t", {"df": math.inf}, "df=inf"),
        (Normal(), {"rank": 3}, "posterior_kwargs"),
    ],
)
def test_bad_options_are_named(spec, kwargs, message):
    with pytest.raises(UserError, match=message):
        make_posterior(spec, **kwargs)


def test_registration_says_what_is_missing():
    @dataclass(frozen=True)
    class Half(Posterior):
        tensors = ()

        def init(self, loc, scale, generator):
            return {"params": loc}

    with pytest.raises(UserError, match="Half does not define log_prob, sample, std"):
        register_posterior("half")(Half)
    with pytest.raises(UserError, match="not a subclass of Posterior"):
        register_posterior("half")(int)

    class Bare(Normal):
        pass

    with pytest.raises(UserError, match="dataclass"):
        register_posterior("bare")(Bare)


@dataclass(frozen=True)
class Uniform(Posterior):
    """Somebody's own: uniform around the location, without an entropy."""

    broken: str = ""

    @property
    def tensors(self):
        return ("raw",)

    def init(self, loc, scale, generator):
        added = {"rho" if self.broken == "init" else "raw": scale.to(loc).log().expand_as(loc).clone()}
        return {"params": loc, **added}

    def sample(self, variational, samples, generator, *, antithetic=False):
        loc = variational["params"]
        u = torch.rand(loc.shape[0], samples, loc.shape[1], generator=generator, dtype=loc.dtype)
        return loc.unsqueeze(1) + (2 * u - 1) * 3**0.5 * variational["raw"].exp().unsqueeze(1)

    def log_prob(self, variational, theta):
        each = -(2 * 3**0.5 * variational["raw"].exp()).log().unsqueeze(1).expand_as(theta)
        return each if self.broken == "log_prob" else each.sum(-1)

    def std(self, variational):
        return variational["raw"].exp()


def test_ones_own_family_is_checked_when_it_is_made(monkeypatch):
    monkeypatch.setattr(POSTERIORS, "_entries", dict(POSTERIORS._entries))
    assert register_posterior("uniform")(Uniform) is Uniform
    assert make_posterior("uniform") == Uniform()
    with pytest.raises(UserError, match=r"log_prob returns shape \(2, 5, 3\) for S=2 members.* expected \(2, 5\)"):
        make_posterior("uniform", broken="log_prob")
    with pytest.raises(UserError, match=r"init returns .*'rho'.* expected .*'raw'"):
        make_posterior(Uniform(broken="init"))
