"""One's own likelihood by decorator, and what the decorator says about a wrong one."""

import math
import re
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import Laplace, Normal

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, NormalPrior, StackedNetwork, Target, fit, make_method, mlp
from dynapilco.inference.likelihoods import LIKELIHOODS, Gaussian, Likelihood, make_likelihood, register_likelihood
from tests.inference.harness import gen, rand


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    for table in ("_entries", "_aliases"):
        monkeypatch.setattr(LIKELIHOODS, table, dict(getattr(LIKELIHOODS, table)))


class Correct(Likelihood):
    def init(self, members, outputs):
        return torch.zeros(members, outputs)

    def constrain(self, raw):
        return raw.exp()

    def distribution(self, noise, f):
        return Laplace(f, noise.unsqueeze(-2).expand_as(f))


def test_a_users_likelihood_works_by_name():
    @register_likelihood("laplace_noise", "double_exponential")
    @dataclass(frozen=True)
    class LaplaceNoise(Correct):
        pass

    assert make_likelihood("double_exponential") == LaplaceNoise()
    x = rand(50, 2).float()
    model = BayesianModel(StackedNetwork(mlp(2, 1, (8,))), make_likelihood("laplace_noise"), NormalPrior(), 1)
    method = make_method("adam")
    state = method.init(model, gen(1))
    target = Target(model, x, x[:, :1] + 1)
    before = target.potential(state["params"], state["points"])
    fit(method, state, target, gen(2), steps=100)
    assert (target.potential(state["params"], state["points"]) < before - 10).all()


def refuse(cls, words):
    with pytest.raises(UserError, match=words):
        register_likelihood("wrong")(dataclass(frozen=True)(cls))
    assert "wrong" not in list(LIKELIHOODS)


def test_missing_functions_are_named_with_their_arguments():
    class Half(Likelihood):
        def constrain(self, raw):
            return raw

    refuse(Half, "Half does not define distribution\\(noise, f\\), init\\(members, outputs\\)")


def test_classes_of_another_kind():
    with pytest.raises(UserError, match="not a subclass of Likelihood"):
        register_likelihood("wrong")(Normal)
    with pytest.raises(UserError, match="@dataclass\\(frozen=True\\) below"):
        register_likelihood("wrong")(Correct)
    own = type("Own", (Gaussian,), {})  # a subclass of a dataclass is not one by itself
    with pytest.raises(UserError, match="@dataclass\\(frozen=True\\) below"):
        register_likelihood("wrong")(own)


def test_signatures():
    class Swapped(Correct):
        def distribution(self, f):  # pyright: ignore
            return Normal(f, 1.0)

    refuse(Swapped, "Swapped.distribution takes \\(f\\), expected distribution\\(noise, f\\)")

    class NoFunction(Correct):
        prepare = None  # pyright: ignore

    refuse(NoFunction, "NoFunction.prepare is no function, expected prepare\\(y, outputs\\)")


WRONG = {
    "init": (
        lambda self, members, outputs: torch.zeros(members),
        "(2, 2) returned shape (2,), expected a tensor of shape (2, k)",
    ),
    "constrain": (lambda self, raw: raw.exp()[:1], "((2, 2)) returned shape (1, 2)"),
    "distribution": (
        lambda self, noise, f: Normal(f[..., :1], 1.0),
        "(noise (2, 2), f (2, 3, 2)) returned Normal of batch shape (2, 3, 1), expected (2, 3, 2)",
    ),
    "log_prob": (
        lambda self, raw, f, y: Laplace(f, raw.exp().unsqueeze(-2)).log_prob(y),
        "((2, 2), (2, 3, 2), (3, 2)) returned shape (2, 3, 2), expected a tensor of shape (2, 3)",
    ),
    "log_prior": (lambda self, raw: raw.sum(), "((2, 2)) returned shape (), expected a tensor of shape (2,)"),
    "prepare": (lambda self, y, outputs: None, "((3, 2), 2) returned NoneType"),
}


@pytest.mark.parametrize("name", WRONG)
def test_shapes(name):
    function, words = WRONG[name]
    refuse(type("Own", (Correct,), {name: function}), re.escape(f"Own.{name}{words}"))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda s, raw, f, y: Laplace(f, raw.exp().unsqueeze(-2)).log_prob(y).sum(-1).detach(), "no gradient"),
        (lambda s, raw, f, y: -(y - f).abs().sum(-1), "gives .*expected the same, constants included"),
        (lambda s, raw, f, y: (f - y).sum(-1) * math.nan, "NaN or infinite"),
        (lambda s, raw, f, y: missing(f), "NameError.*defined above the class"),  # noqa: F821
        (lambda s, raw, f, y: f @ y, "raised RuntimeError on a tiny example"),
    ],
)
def test_log_prob(function, words):
    refuse(type("Own", (Correct,), {"log_prob": function}), f"Own.log_prob.*{words}")


def test_registration_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    register_likelihood("fine")(dataclass(frozen=True)(type("Fine", (Correct,), {})))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_likelihood("gaussain"), "unknown likelihood 'gaussain': did you mean gaussian"),
        (lambda: make_likelihood("gaussian", sigma=1.0), "no option 'sigma': valid options are floor, initial, fixed"),
        (lambda: make_likelihood("bernoulli", p=1.0), "no option 'p': it has none"),
        (lambda: make_likelihood("joint"), "needs the option blocks"),
        (lambda: make_likelihood(Gaussian(), floor=0.1), "options floor go with a name"),
        (lambda: make_likelihood(3), "unknown likelihood 3"),  # pyright: ignore
        (lambda: make_likelihood(None), "unknown likelihood None"),  # pyright: ignore
    ],
)
def test_make_likelihood_refuses(call, words):
    with pytest.raises(UserError, match=words):
        call()


def test_make_likelihood():
    assert make_likelihood("gaussian", floor=0.1) == Gaussian(floor=0.1)
    assert make_likelihood(("gaussian", {"floor": 0.1})) == Gaussian(floor=0.1)
    own = Gaussian()
    assert make_likelihood(own) is own
