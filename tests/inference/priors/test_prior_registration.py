"""One's own prior by decorator, and what the decorator says about a wrong one."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch.nn.functional import softplus

from dynapilco.core.errors import UserError
from dynapilco.inference.priors import PRIORS, ElementwisePrior, NormalPrior, Prior, make_prior, register_prior
from tests.inference.harness import conjugate, gen


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    for table in ("_entries", "_aliases"):
        monkeypatch.setattr(PRIORS, table, dict(getattr(PRIORS, table)))


class Logistic(Prior):
    def log_prob(self, params, layout):
        return (-params - 2 * softplus(-params)).sum(-1)

    def sample(self, layout, size, generator):
        return torch.rand(size, layout.total, generator=generator, device=generator.device).logit()

    def std(self, layout):
        return torch.full((layout.total,), math.pi / 3**0.5)


def test_a_users_prior_works_by_name():
    @register_prior("logistic", "sech")
    @dataclass(frozen=True)
    class Registered(Logistic):
        pass

    prior = make_prior("sech")
    assert prior == Registered()
    layout = conjugate().model.network.layout
    params = torch.zeros(2, layout.total, dtype=torch.float64)
    torch.testing.assert_close(prior.curvature(params, layout), torch.full_like(params, 0.5))
    sample = prior.sample(layout, 20_000, gen(1))
    torch.testing.assert_close(sample.std(0), prior.std(layout), rtol=0.05, atol=0)


def test_an_elementwise_prior_takes_a_density_a_spread_and_a_sample():
    @register_prior("logistic")
    @dataclass(frozen=True)
    class Short(ElementwisePrior):
        def density(self, weights):
            return -weights - 2 * softplus(-weights)

        def spread(self):
            return math.pi / 3**0.5

        def sample(self, layout, size, generator):
            return torch.rand(size, layout.total, generator=generator).logit()

    layout = conjugate().model.network.layout
    params = torch.randn(3, layout.total, generator=gen(2))
    torch.testing.assert_close(make_prior("logistic").log_prob(params, layout), Logistic().log_prob(params, layout))


def refuse(words, **functions):
    cls = dataclass(frozen=True)(type("Own", (Logistic,), functions))
    with pytest.raises(UserError, match=words):
        register_prior("wrong")(cls)
    assert "wrong" not in list(PRIORS)


def test_missing_functions_are_named_with_their_arguments():
    @dataclass(frozen=True)
    class Half(Prior):
        def std(self, layout):
            return torch.ones(layout.total)

    with pytest.raises(UserError, match=r"log_prob\(params, layout\), sample\(layout, size, generator\)"):
        register_prior("wrong")(Half)


def test_classes_of_another_kind():
    with pytest.raises(UserError, match="not a subclass of Prior"):
        register_prior("wrong")(torch.distributions.Normal)
    with pytest.raises(UserError, match=r"@dataclass\(frozen=True\) below the decorator of Logistic"):
        register_prior("wrong")(Logistic)


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("log_prob", lambda s, params: params.sum(-1), 
            r"Own.log_prob takes \(params\), expected log_prob\(params, layout\)"),
        ("log_prob", lambda s, p, layout: -p.abs(), r"\(\(2, 9\), ...\) returned shape \(2, 9\), expected.*\(2,\)"),
        ("log_prob", lambda s, p, layout: (-p.abs()).sum(), r"returned shape \(\), expected.*\(2,\)"),
        ("log_prob", lambda s, p, layout: -p.abs().detach().sum(-1), "log_prob has no gradient"),
        ("log_prob", lambda s, p, layout: -p.float().abs().sum(-1), "float32 for params of torch.float64"),
        ("log_prob", lambda s, p, layout: -p.square().sum(-1).sqrt(), r"depend on each other.*curvature"),
        ("log_prob", lambda s, p, layout: p.log().sum(-1), "NaN or infinite"),
        ("sample", lambda s, layout, size, generator: torch.zeros(size), r"returned shape \(2,\), expected.*\(2, 9\)"),
        ("sample", lambda s, layout, size, generator: torch.empty(size, 9).normal_(), "draw everything from"),
        ("std", lambda s, layout: torch.ones(()), r"std\(...\) returned shape \(\), expected.*\(9,\)"),
        ("std", lambda s, layout: -torch.ones(9), "std returned -1: expected numbers above 0"),
        ("std", lambda s, layout: 1.0, "std.*returned float"),
        ("gaussian", True, "gaussian is True, but"),
    ],
)  # fmt: skip
def test_feedback(name, function, words):
    refuse(words, **{name: function})


def test_dependent_weights_are_allowed_with_a_curvature_of_their_own():
    functions = {
        "log_prob": lambda self, p, layout: -p.square().sum(-1).sqrt(),
        "curvature": lambda self, p, layout: torch.ones_like(p),
    }
    register_prior("group")(dataclass(frozen=True)(type("Group", (Logistic,), functions)))
    assert "group" in list(PRIORS)


def test_a_prior_made_for_certain_names_is_not_tried_on_others():
    def std(self, layout):
        if layout.names[0] != "encoder.weight":
            raise UserError("this prior is for encoders")
        return torch.ones(layout.total)

    register_prior("encoder")(dataclass(frozen=True)(type("Encoder", (Logistic,), {"std": std})))
    assert "encoder" in list(PRIORS)


def test_a_piecewise_linear_density_has_no_curvature():
    class Flat(Logistic):
        def log_prob(self, params, layout):
            return params.sum(-1)

    layout = conjugate().model.network.layout
    params = torch.ones(2, layout.total)
    assert torch.equal(Flat().curvature(params, layout), torch.zeros_like(params))


def test_the_normal_prior_keeps_its_density():
    layout = conjugate().model.network.layout
    params = torch.ones(2, layout.total)
    expected = torch.distributions.Normal(0.0, 0.5).log_prob(params).sum(-1)
    torch.testing.assert_close(NormalPrior(0.5).log_prob(params, layout), expected)
