"""What an adversarial reader broke once: each stays mended."""

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import METHODS, BayesianModule, DivergenceError, Ensemble, Gaussian, NormalPrior
from dynapilco.inference.fitting import Fit
from tests.inference.harness import gen

X = torch.randn(11, 2, generator=gen())
Y = torch.randn(11, 1, generator=gen(1))
SHORT = {"cold_steps": 200, "warm_steps": 100}


def net(outputs=1):
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, outputs))


class Stop(Exception):
    pass


def stop(done, *_):
    raise Stop


@pytest.mark.parametrize("name", ["adam", "sgld", "swag", "laplace"])
def test_divergence_after_a_resume_keeps_the_last_good_state(name, tmp_path, monkeypatch):
    def build():
        return BayesianModule(net(), name, inference_kwargs=SHORT)

    with pytest.raises(Stop):
        build().fit(X, Y, checkpoint=tmp_path, checkpoint_every=50, callback=lambda d, *_: stop(d) if d > 100 else None)
    good, check = {}, Fit._check

    def poisoned(self, values, callback):
        if self.done == 150:
            good.update({k: v.clone() for k, v in self._good.items()})
            self.state["params"].fill_(float("nan"))
        check(self, values, callback)

    monkeypatch.setattr(Fit, "_check", poisoned)
    bnn = build()
    with pytest.raises(DivergenceError):
        bnn.fit(X, Y, checkpoint=tmp_path, checkpoint_every=50)
    assert good.keys() <= bnn.state.keys()
    concluded = {"laplace": ("params", "points")}  # its curvature is that of the last good networks
    assert all(torch.equal(bnn.state[k], good[k]) for k in concluded.get(name, good))


@pytest.mark.parametrize("name", ["adam", "ensemble", "bbb", "sgld", "ivon"])
def test_ones_own_loop_notices_divergence(name):
    bnn = BayesianModule(net(), name, inference_kwargs=SHORT)
    bnn.begin(rows=11, steps=100)
    for _ in range(10):
        bnn.step(X, Y)
    good = {k: v.clone() for k, v in bnn.state.items()}
    bnn.loop.good = good
    bnn.holder.params.data.fill_(1e30)
    with pytest.raises(DivergenceError, match="diverged at step"):  # noqa: PT012
        for _ in range(90):
            bnn.step(X, Y)
    assert all(torch.equal(bnn.state[k], v) for k, v in good.items())


@pytest.mark.parametrize("parts", [
    {"likelihood": "joint", "likelihood_kwargs": {"blocks": (("gaussian", 1), ("bernoulli", 1))}},
    {"prior": {"0.*": "laplace", "*": "normal"}, "likelihood": "heteroscedastic"},
], ids=["joint", "per_layer"])  # fmt: skip
def test_compound_parts_resume(parts, tmp_path):
    y = torch.cat([Y, (Y > 0).float()], 1) if parts["likelihood"] == "joint" else Y

    def build():
        return BayesianModule(net(2), "adam", inference_kwargs=SHORT, **parts)

    with pytest.raises(Stop):
        build().fit(X, y, checkpoint=tmp_path, checkpoint_every=50, callback=lambda d, *_: stop(d) if d > 100 else None)
    assert build().fit(X, y, checkpoint=tmp_path, checkpoint_every=50).steps == 200


def test_target_noise_counts_row_weights():
    """A row of weight 4 is four rows: the spread of a linear fit is that of four times the data."""
    x = torch.randn(12, 1, generator=gen(2), dtype=torch.float64)
    y, weights, sigma = 0.5 * x, torch.full((12,), 4.0), 0.3
    options = {"members": 400, "target_noise": True, "cold_steps": 600, "learning_rate": 0.03}
    line = nn.Sequential(nn.Linear(1, 1)).double()
    bnn = BayesianModule(line, Ensemble(**options), Gaussian(fixed=sigma), NormalPrior(1.0))
    bnn.fit(x, y, weights=weights)
    design = torch.cat([x, torch.ones_like(x)], 1)
    exact = torch.linalg.inv(4 * design.T @ design / sigma**2 + torch.eye(2, dtype=torch.float64)).diagonal()
    ratio = bnn.state["params"].var(0) / exact
    assert (ratio - 1).abs().max() < 5 * (2 / 400) ** 0.5


@pytest.mark.parametrize("name", ["adam", "bbb", "hmc", "laplace"])
def test_inference_mode_leaves_no_trace(name):
    with torch.inference_mode():
        bnn = BayesianModule(net(), name, inference_kwargs={"cold_steps": 20})
        bnn.fit(X.clone(), Y.clone())
        bnn.predict(X)
        if name == "bbb":
            bnn.kl_divergence()
    bnn.fit(X, Y, steps=20)
    BayesianModule(net(), name, inference_kwargs={"cold_steps": 20}).fit(X, Y)


@pytest.mark.parametrize("name", list(METHODS))
def test_a_state_dict_goes_into_a_new_module(name):
    a, b = (BayesianModule(net(), name, inference_kwargs={"cold_steps": 20, "warm_steps": 10}) for _ in range(2))
    a.fit(X, Y)
    b.load_state_dict(a.state_dict())
    assert a.state.keys() == b.state.keys()
    assert torch.equal(a.predict(X).mean, b.predict(X).mean)
    a.fit(X, Y)
    b.fit(X, Y)
    assert torch.equal(a.state["params"], b.state["params"])


def test_widths_are_checked():
    with pytest.raises(UserError, match="gives 3 columns"):
        BayesianModule(net(3), "adam", outputs=1).fit(X, Y)
    with pytest.raises(UserError, match="gives 1 columns"):
        BayesianModule(net(1), "adam", outputs=3).fit(X, torch.cat([Y, Y, Y], 1))
    bnn = BayesianModule(net(), "adam")
    for x in (torch.zeros(5, 3), torch.zeros(5), torch.zeros(5, 2, dtype=torch.long)):
        with pytest.raises(UserError, match="x: the network takes no"):
            bnn.predict(x)
    with pytest.raises(UserError, match="expected finite inputs"):
        bnn.predict(X * float("nan"))


@pytest.mark.parametrize("name", ["ivon", "laplace", "hmc", "ensemble"])
def test_an_interrupted_fit_changes_nothing(name):
    bnn = BayesianModule(net(), name, inference_kwargs=SHORT)
    bnn.fit(X, Y)
    before = {k: v.clone() for k, v in bnn.state.items()}
    with pytest.raises(Stop):
        bnn.fit(torch.cat([X] * 5), torch.cat([Y] * 5), callback=stop)
    assert before.keys() == bnn.state.keys()
    assert all(torch.equal(bnn.state[k], v) for k, v in before.items())


def test_hmc_takes_no_minibatches_in_ones_own_loop():
    bnn = BayesianModule(net(), "hmc")
    bnn.begin(rows=11, steps=50)
    with pytest.raises(UserError, match="needs all 11 rows at once, got 5"):
        bnn.step(X[:5], Y[:5])


def test_sequences_through_a_plain_stack():
    x, y = torch.randn(9, 5, 2, generator=gen(3)), torch.randn(9, 5, generator=gen(4))
    bnn = BayesianModule(net(), "ensemble", outputs=5, inference_kwargs={"members": 2, "cold_steps": 20})
    bnn.fit(x, y)
    assert bnn(x, samples=2).shape == (2, 9, 5, 1)


def test_numbers_that_are_not_whole():
    bnn = BayesianModule(net(), "laplace", inference_kwargs=SHORT)
    for call in (lambda: bnn.fit(X, Y, steps=2.5), lambda: bnn.begin(rows=11, steps=2.5)):
        with pytest.raises(UserError, match=r"steps=2\.5"):
            call()
    for option in ({"members": 2.5}, {"batch_size": 2.5}, {"cold_steps": True}):
        with pytest.raises(UserError, match="whole number"):
            Ensemble(**option)
    with pytest.raises(UserError, match="temperature='a'"):
        Ensemble(temperature="a")
    with pytest.raises(UserError, match="rows=3: N cannot be smaller"):
        BayesianModule(net(), "adam").loss(X, Y, rows=3)


def test_one_name_to_exclude_and_bad_weights():
    assert BayesianModule(net(), "adam", exclude="0.weight").model.network.excluded.names == ("0.weight",)
    broken = net()
    with torch.no_grad():
        broken[0].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"NaN or infinite weights in 0\.weight"):
        BayesianModule(broken, "adam")


def test_minibatches_have_nearly_equal_sizes():
    sizes = []
    bnn = BayesianModule(net(), "adam", inference_kwargs={"batch_size": 10, "cold_steps": 4})
    step = type(bnn.method).step

    class Watching(type(bnn.method)):
        def step(self, state, batch, clock, generator):
            sizes.append(batch.rows)
            return step(self, state, batch, clock, generator)

    bnn.method = Watching(batch_size=10, cold_steps=4)
    bnn.fit(X, Y)
    assert sizes == [6, 5, 6, 5]
