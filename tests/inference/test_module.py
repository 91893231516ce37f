"""The face: one line makes a module Bayesian; fit, own loop, own optimiser, predict, save."""

import copy
import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.inference import BayesianModule, DivergenceError, Ensemble, Gaussian, NormalPrior
from dynapilco.inference.likelihoods import Likelihood

FAST = {"members": 3, "cold_steps": 120, "warm_steps": 60}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.linspace(-1, 1, 50).unsqueeze(-1)
Y = torch.sin(3 * X) + 0.1 * torch.randn(50, 1, generator=gen())


def net(outputs=1, inputs=1):
    return nn.Sequential(nn.Linear(inputs, 12), nn.Tanh(), nn.Linear(12, outputs))


def fitted(**kwargs):
    bnn = BayesianModule(net(), **{"inference": "ensemble", "inference_kwargs": FAST, **kwargs})
    bnn.fit(X, Y)
    return bnn


def test_the_users_module_is_left_alone():
    module = net()
    before, pickled = copy.deepcopy(module.state_dict()), pickle.dumps(module)
    bnn = BayesianModule(module, inference_kwargs=FAST)
    bnn.fit(X, Y)
    bnn(X, samples=4)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert pickle.dumps(module) == pickled
    assert not any(p is q for p in module.parameters() for q in bnn.parameters())
    assert torch.equal(module(X), module(X))


def test_a_point_estimate_starts_at_the_modules_own_weights():
    module = net()
    bnn = BayesianModule(module, inference="adam")
    torch.testing.assert_close(bnn(X)[0], module(X))


def test_shapes_of_draws_and_predictions():
    bnn = fitted()
    assert bnn(X, samples=10).shape == (10, 50, 1)
    draw = bnn.draw(7)
    assert draw(X).shape == (7, 50, 1)
    assert torch.equal(draw(X), draw(X))
    assert draw.each(X.expand(7, 50, 1)).shape == (7, 50, 1)
    p = bnn.predict(X)
    for tensor in (p.mean, p.epistemic, p.aleatoric, p.quantile(0.3)):
        assert tensor.shape == (50, 1)
    assert p.sample(9).shape == (9, 50, 1)
    assert p.quantile(torch.tensor([0.1, 0.5, 0.9])).shape == (3, 50, 1)
    assert p.log_prob(Y).shape == (50,)
    assert p.mean.grad_fn is None


def test_it_learns_and_is_calibrated():
    wide = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1))
    bnn = BayesianModule(wide, inference_kwargs={"members": 5, "cold_steps": 3000})
    bnn.fit(X, Y)
    p = bnn.predict(X)
    assert (p.mean - Y).square().mean().sqrt() < 0.12
    low, high = p.interval(0.95)
    assert 0.85 < ((low <= Y) & (high >= Y)).float().mean() <= 1
    far = bnn.predict(torch.tensor([[4.0]]))
    assert far.epistemic > 20 * p.epistemic.median()
    assert 0.05 < p.aleatoric.sqrt().mean() < 0.15


def test_data_as_loader_arrays_and_flat_targets():
    loader = DataLoader(TensorDataset(X, Y), batch_size=7)
    results = []
    for data in ((X, Y), (loader,), (X.numpy(), Y.numpy()), (X, Y[:, 0]), (X.double(), Y.double())):
        bnn = BayesianModule(net_fixed(), inference_kwargs=FAST)
        bnn.fit(*data, steps=20)
        results.append(bnn.state["params"])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def net_fixed():
    module = net()
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.copy_(0.3 * torch.randn(p.shape, generator=gen(i)))
    return module


def test_one_seed_gives_one_result():
    runs = [BayesianModule(net_fixed(), inference_kwargs=FAST, seed=seed) for seed in (3, 3, 4)]
    for bnn in runs:
        bnn.fit(X, Y, steps=30)
    a, b, c = (bnn.predict(X).sample(5) for bnn in runs)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_fit_goes_on_when_the_data_have_grown():
    bnn = BayesianModule(net(), inference_kwargs=FAST)
    assert bnn.fit(X[:30], Y[:30]).steps == 120
    before = bnn.state["params"].clone()
    assert bnn.fit(X, Y).steps == 60
    assert 0 < (bnn.state["params"] - before).abs().max() < 3


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("inference", ["ensemble", "mc_dropout", "adam"])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_an_interrupted_fit_goes_on_bit_for_bit(tmp_path, inference, batch_size):
    def build():
        return BayesianModule(net_fixed(), inference, inference_kwargs={"cold_steps": 200, "batch_size": batch_size})

    whole = build()
    whole.fit(X, Y)

    def stop(done, *_):
        if done == 150:
            raise Interrupt

    with pytest.raises(Interrupt):
        build().fit(X, Y, checkpoint=tmp_path / "fit", checkpoint_every=70, callback=stop)
    resumed, calls = build(), []
    resumed.fit(X, Y, checkpoint=tmp_path / "fit", checkpoint_every=70, callback=lambda done, *_: calls.append(done))
    assert calls[0] > 140
    for name, tensor in whole.state.items():
        assert torch.equal(resumed.state[name], tensor), name
    with pytest.raises(CheckpointError, match="another fit"):
        build().fit(X, Y + 1, checkpoint=tmp_path / "fit")


@pytest.mark.parametrize("inference", ["ensemble", "mc_dropout", "adam"])
def test_save_and_load(tmp_path, inference):
    bnn = BayesianModule(net_fixed(), inference, "gaussian", NormalPrior(2.0), inference_kwargs={"cold_steps": 60})
    bnn.fit(X, Y)
    bnn.save(tmp_path / "bnn.zip")
    assert not list(tmp_path.rglob("*.pkl"))
    again = BayesianModule.load(tmp_path / "bnn.zip", net())
    assert again.method == bnn.method
    assert again.model.prior == NormalPrior(2.0)
    assert torch.equal(again.predict(X).mean, bnn.predict(X).mean)
    again.fit(X, Y, steps=30)
    bnn.fit(X, Y, steps=30)
    assert torch.equal(again.state["params"], bnn.state["params"])
    with pytest.raises(CheckpointError, match="net has parameters"):
        BayesianModule.load(tmp_path / "bnn.zip", net(2))


def test_parts_of_ones_own_are_passed_to_load(tmp_path):
    @dataclass(frozen=True)
    class Mine(Gaussian):
        pass

    bnn = BayesianModule(net(), likelihood=Mine(), inference_kwargs=FAST)
    bnn.save(tmp_path)
    with pytest.raises(CheckpointError, match="likelihood is an object of your own"):
        BayesianModule.load(tmp_path, net())
    assert BayesianModule.load(tmp_path, net(), likelihood=Mine()).model.likelihood == Mine()


def test_a_loop_of_ones_own_is_a_fit():
    """Full batches: the same updates, so the same loss within what other random streams change."""
    bnn = BayesianModule(net(), inference_kwargs={**FAST, "members": 2})
    with pytest.raises(UserError, match="begin"):
        bnn.step(X, Y)
    bnn.begin(rows=50, steps=120)
    first = bnn.step(X, Y)["potential"]
    for _ in range(118):
        bnn.step((X, Y))
    last = bnn.step(X, Y)["potential"]
    fit = BayesianModule(net(), inference_kwargs={**FAST, "members": 2}).fit(X, Y)
    assert last < first - 1
    assert last == pytest.approx(fit.potential, abs=0.5)
    with pytest.raises(UserError, match="begin"):
        bnn.step(X, Y)


def test_batches_of_ones_own_loop_are_scaled_by_N():
    whole, part = (BayesianModule(net_fixed(), "adam") for _ in range(2))
    whole.begin(rows=50, steps=10)
    part.begin(rows=50, steps=10)
    twice = torch.cat([X[:25], X[:25]]), torch.cat([Y[:25], Y[:25]])
    whole.step(*twice)
    part.step(X[:25], Y[:25])
    torch.testing.assert_close(part.state["params"], whole.state["params"])


def test_loss_with_ones_own_optimiser():
    bnn = BayesianModule(net(), "adam")
    optimiser = torch.optim.Adam(bnn.parameters(), lr=0.02)
    values = []
    for _ in range(300):
        optimiser.zero_grad()
        value = bnn.loss(X, Y)
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0] - 0.5
    assert (bnn.predict(X).mean - Y).square().mean().sqrt() < 0.2
    half = bnn.loss(X[:10], Y[:10], rows=50)
    assert half.isfinite()


def test_methods_without_a_loss_say_what_to_call():
    @dataclass(frozen=True)
    class NoLoss(Ensemble):
        pass

    with pytest.raises(UserError, match="needs the whole data set: call fit"):
        BayesianModule(net(), Ensemble(kind="bootstrap")).loss(X, Y)
    with pytest.raises(UserError, match="no variational density"):
        BayesianModule(net()).kl_divergence()


def test_log_probabilities_of_samples():
    """Their mean difference is the KL divergence."""
    bnn = BayesianModule(net(), "bbb", inference_kwargs={"cold_steps": 50})
    bnn.fit(X, Y)
    y, log_probs = bnn(X, samples=4000, log_probs=True)
    assert y.shape == (4000, 50, 1)
    gaps = log_probs.posterior - log_probs.prior
    error = gaps.std() / 4000**0.5
    assert (gaps.mean() - bnn.kl_divergence()[0]).abs() < 4 * error
    with pytest.raises(UserError, match="no density of weights"):
        BayesianModule(net())(X, samples=2, log_probs=True)


def test_divergence_keeps_the_last_good_state():
    bnn = BayesianModule(net(), inference_kwargs={**FAST, "learning_rate": 1e20})
    before = {k: v.clone() for k, v in bnn.state.items()}
    with pytest.raises(DivergenceError, match="'ensemble' diverged at step"):
        bnn.fit(X, Y)
    assert all(torch.equal(bnn.state[k], v) for k, v in before.items())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((X * float("nan"), Y), "x "),
        ((X, Y[:10]), "50"),
        ((X[:0], Y[:0]), "empty"),
        ((X, (Y > 0).long()), "categorical"),
        ((X, torch.cat([Y, Y], 1)), "2 columns"),
    ],
)
def test_bad_data_is_named_before_training(arguments, words):
    bnn = BayesianModule(net(), inference_kwargs=FAST)
    before = bnn.state["params"].clone()
    with pytest.raises(UserError, match=words):
        bnn.fit(*arguments)
    assert torch.equal(bnn.state["params"], before)


def test_bad_calls():
    with pytest.raises(UserError, match="did you mean ensemble"):
        BayesianModule(net(), "ensembel")
    with pytest.raises(UserError, match="no option 'memberz'"):
        BayesianModule(net(), inference_kwargs={"memberz": 3})
    with pytest.raises(UserError, match="BatchNorm"):
        BayesianModule(nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))
    with pytest.raises(UserError, match="matches no trainable parameter"):
        BayesianModule(net(), exclude=["bias"])
    bnn = BayesianModule(net(), inference_kwargs=FAST)
    with pytest.raises(UserError, match="samples=0"):
        bnn(X, samples=0)
    with pytest.raises(UserError, match="n=0"):
        bnn.predict(X).sample(0)
    with pytest.raises(UserError, match=r"q=1\.5"):
        bnn.predict(X).quantile(1.5)
    with pytest.raises(UserError, match="steps=0"):
        bnn.fit(X, Y, steps=0)


def test_excluded_parameters_are_point_estimates():
    bnn = BayesianModule(net(), inference_kwargs=FAST, exclude=["2.*"])
    assert bnn.model.network.layout.names == ("0.weight", "0.bias")
    bnn.fit(X, Y)
    assert bnn.state["points"].shape == (3, 1 + 13)
    assert bnn(X, samples=3).shape == (3, 50, 1)
    exclude = ["0.weight", "2.bias"]
    dense, vmap = (BayesianModule(net_fixed(), "adam", exclude=exclude, engine=engine) for engine in ("dense", "vmap"))
    torch.testing.assert_close(dense(X), vmap(X))
    torch.testing.assert_close(dense(X)[0], net_fixed()(X))


def test_dtype_and_quantiles_against_scipy():
    from scipy.optimize import brentq
    from scipy.stats import norm

    bnn = BayesianModule(net().double(), inference_kwargs=FAST)
    bnn.fit(X, Y)
    assert bnn.state["params"].dtype == torch.float64
    p = bnn.predict(X[:3])
    mean, std = p.distribution.mean[:, 1, 0].numpy(), p.distribution.stddev[:, 1, 0].numpy()
    exact = brentq(lambda t: norm.cdf(t, mean, std).mean() - 0.9, -10, 10, xtol=1e-12)
    assert float(p.quantile(0.9)[1, 0]) == pytest.approx(exact, abs=1e-9)
    assert float(p.cdf(p.quantile(0.9))[1, 0]) == pytest.approx(0.9, abs=1e-9)


def test_lightning_trains_it_and_torchmetrics_scores_it():
    lightning = pytest.importorskip("lightning")
    torchmetrics = pytest.importorskip("torchmetrics")

    class Wrapped(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.bnn = BayesianModule(net_fixed(), "bbb", likelihood=Gaussian(initial=0.2))
            self.error = torchmetrics.MeanSquaredError()

        def training_step(self, batch, _):
            return self.bnn.loss(*batch, rows=50)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.02)

    module = Wrapped()
    before = module.bnn.predict(X).mean
    trainer = lightning.Trainer(
        max_epochs=100, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=25))
    after = module.bnn.predict(X).mean
    assert module.error(after, Y) < 0.5 * torch.nn.functional.mse_loss(before, Y)
    assert module.bnn.kl_divergence().shape == (1,)


def test_a_likelihood_must_be_one():
    assert issubclass(Gaussian, Likelihood)
