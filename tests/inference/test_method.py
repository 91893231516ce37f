"""Methods by name, the loop that trains any of them, and divergence."""

import math

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference import (
    METHODS,
    BayesianModel,
    Ensemble,
    FanInNormal,
    Gaussian,
    MCDropout,
    StackedNetwork,
    Target,
    fit,
    make_method,
    mlp,
)
from dynapilco.inference.fitting import CHECK_EVERY


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    return BayesianModel(StackedNetwork(mlp(1, 1, (8,))), Gaussian(), FanInNormal(), 1)


@pytest.fixture
def target(model):
    x = torch.randn(20, 1, generator=gen())
    return Target(model, x, torch.sin(x))


def test_names_and_options():
    assert make_method("ensemble", {"members": 3}) == Ensemble(members=3)
    assert make_method("dropout") == make_method("mc_dropout") == MCDropout()
    assert set(METHODS) >= {"ensemble", "mc_dropout"}


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("ensembel", None, "unknown inference method 'ensembel': did you mean ensemble"),
        ("ensemble", {"member": 3}, "'ensemble' has no option 'member': valid options are members, batch_size"),
        ("ensemble", {"members": 0}, "members=0"),
        ("ensemble", {"cold_steps": 0}, "cold_steps=0"),
        ("ensemble", {"learning_rate": 0.0}, "learning_rate=0.0"),
        ("ensemble", {"learning_rate": float("nan")}, "learning_rate=nan"),
        ("mc_dropout", {"rate": 1.0}, "rate=1.0"),
        ("mc_dropout", {"rate": -0.1}, "rate=-0.1"),
        ("mc_dropout", {"warm_steps": 0}, "warm_steps=0"),
        ("mc_dropout", {"batch_size": 0}, "batch_size=0"),
        ("mc_dropout", {"temperature": 0.0}, "temperature=0.0"),
    ],
)
def test_unknown_names_and_bad_options(name, kwargs, words):
    with pytest.raises(UserError, match=words):
        make_method(name, kwargs)


@pytest.mark.parametrize("method", [Ensemble(members=3), MCDropout()], ids=["ensemble", "mc_dropout"])
def test_fit_lowers_the_potential_and_reports(model, target, method):
    state, calls = method.init(model, gen()), []
    report = fit(method, state, target, gen(), steps=220, callback=lambda *a: calls.append(a))
    assert [done for done, _, _ in calls] == [50, 100, 150, 200, 220]
    assert all(total == 220 for _, total, _ in calls)
    assert calls[-1][2]["potential"] == report.potential < calls[0][2]["potential"]
    assert report.steps == 220
    assert not report.diverged
    assert not any(t.requires_grad for t in state.values())


@pytest.mark.parametrize("method", [Ensemble(members=3), MCDropout()], ids=["ensemble", "mc_dropout"])
def test_fit_belongs_to_its_generator(model, target, method):
    before, states = torch.get_rng_state(), []
    for _ in range(2):
        state = method.init(model, gen(3))
        fit(method, state, target, gen(4), steps=20)
        states.append(state)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("rate", [1e12, 1e30])
@pytest.mark.parametrize("cls", [Ensemble, MCDropout])
def test_an_absurd_learning_rate_goes_back_to_the_start(model, target, cls, rate):
    method = cls(learning_rate=rate)
    state = method.init(model, gen())
    start = {name: t.clone() for name, t in state.items()}
    report = fit(method, state, target, gen(), steps=100)
    assert report.diverged
    assert all(torch.equal(state[name], start[name]) for name in start)
    assert not any(t.requires_grad for t in state.values())


@pytest.mark.parametrize("at", [1, 51, 99, 120])
def test_bad_numbers_at_runtime_go_back_to_the_last_good_state(model, target, at):
    """Data that turn infinite in the middle of a fit; the checks at 50 and 100 were good."""

    class Breaking(Target):
        calls = 0

        def batch(self, index=None):
            Breaking.calls += 1
            if Breaking.calls == at:
                self.all.y.mul_(math.inf)
            return super().batch(index)

    method, good = Ensemble(members=2), {}
    state = method.init(model, gen())
    good[0] = {name: t.clone() for name, t in state.items()}

    def keep(done, *_):
        good[done] = {name: t.detach().clone() for name, t in state.items()}

    report = fit(method, state, Breaking(model, target.all.x, target.all.y.clone()), gen(), steps=150, callback=keep)
    last = (at - 1) // CHECK_EVERY * CHECK_EVERY
    assert report.diverged
    assert report.steps == last + CHECK_EVERY
    assert list(good) == list(range(0, last + 1, CHECK_EVERY))
    assert all(torch.equal(state[name], good[last][name]) for name in good[last])
    again = fit(method, state, target, gen(), steps=5)  # and it can be fitted again
    assert not again.diverged
    assert math.isfinite(again.potential)


def test_one_bad_member_is_enough(model, target):
    method = Ensemble(members=3)
    state = method.init(model, gen())
    state["anchors"][1] = float("inf")
    assert fit(method, state, target, gen(), steps=10).diverged
