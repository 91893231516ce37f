"""The potential energy: likelihood, prior, scaling, weights, data of each member."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, FanInNormal, Gaussian, StackedNetwork, Target, mlp

S, N, IN, OUT = 3, 24, 2, 2


@dataclass(frozen=True)
class Case:
    model: BayesianModel
    x: torch.Tensor
    y: torch.Tensor
    params: torch.Tensor
    noise: torch.Tensor


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=gen(seed), dtype=torch.float64)


@pytest.fixture(params=["dense", "vmap"])
def case(request):
    network = StackedNetwork(mlp(IN, OUT, (5,)), "auto" if request.param == "dense" else "vmap")
    model = BayesianModel(network, Gaussian(), FanInNormal(1.5, 3.0), OUT)
    return Case(
        model, randn(N, IN), randn(N, OUT, seed=1), randn(S, network.layout.total, seed=2), randn(S, OUT, seed=3)
    )


def test_potential_by_hand(case):
    target = Target(case.model, case.x, case.y)
    f = case.model.network.shared(case.params, case.x)
    sigma = case.model.likelihood.constrain(case.noise)
    likelihood = Normal(f, sigma.unsqueeze(1)).log_prob(case.y).sum((1, 2))
    std = case.model.prior.std(case.model.network.layout).double()
    prior = Normal(torch.zeros_like(std), std).log_prob(case.params).sum(1)
    weak = case.model.likelihood.log_prior(case.noise)
    torch.testing.assert_close(target.potential(case.params, case.noise), -(likelihood + prior + weak))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_minibatches_are_unbiased(case, weighted, own):
    """The mean over a partition into equal batches is the full potential."""
    x, y = (case.x, case.y) if not own else (randn(S, N, IN, seed=4), randn(S, N, OUT, seed=5))
    shape = (S, N) if own else (N,)
    weights = torch.rand(*shape, generator=gen(6), dtype=torch.float64) if weighted else None
    target = Target(case.model, x, y, weights)
    full = target.potential(case.params, case.noise)
    for size in (1, 4, 8):
        batches = torch.randperm(N, generator=gen(size)).split(size)
        mean = torch.stack([target.potential(case.params, case.noise, b) for b in batches]).mean(0)
        torch.testing.assert_close(mean, full, atol=1e-10, rtol=1e-10)
    one = target.potential(case.params, case.noise, torch.tensor([0]))
    assert (one - full).abs().max() > 1e-3


def test_gradients_of_minibatches_are_unbiased(case):
    target = Target(case.model, case.x, case.y)
    params = case.params.clone().requires_grad_(True)

    def gradient(batch):
        return torch.autograd.grad(target.potential(params, case.noise, batch).sum(), params)[0]

    mean = torch.stack([gradient(b) for b in torch.arange(N).split(6)]).mean(0)
    torch.testing.assert_close(mean, gradient(None), atol=1e-10, rtol=1e-10)


def test_own_data_equals_separate_runs(case):
    x, y = randn(S, N, IN, seed=4), randn(S, N, OUT, seed=5)
    weights = torch.rand(S, N, generator=gen(6), dtype=torch.float64)
    together = Target(case.model, x, y, weights).potential(case.params, case.noise)
    for s in range(S):
        alone = Target(case.model, x[s], y[s], weights[s])
        value = alone.potential(case.params[s : s + 1], case.noise[s : s + 1])
        torch.testing.assert_close(together[s], value[0], atol=1e-10, rtol=1e-10)


def test_weights_count_rows(case):
    weights = torch.ones(N, dtype=torch.float64)
    weights[: N // 2] = 0
    half = Target(case.model, case.x[N // 2 :], case.y[N // 2 :])
    weighted = Target(case.model, case.x, case.y, weights)
    assert float(weighted.all.size) == N // 2 == float(half.all.size)
    torch.testing.assert_close(
        weighted.potential(case.params, case.noise), half.potential(case.params, case.noise), atol=1e-10, rtol=1e-10
    )
    twice = Target(case.model, torch.cat([case.x, case.x]), torch.cat([case.y, case.y]))
    doubled = Target(case.model, case.x, case.y, 2 * torch.ones(N, dtype=torch.float64))
    torch.testing.assert_close(
        twice.potential(case.params, case.noise), doubled.potential(case.params, case.noise), atol=1e-9, rtol=1e-10
    )


def test_temperature_divides_all(case):
    hot, warm = (Target(case.model, case.x, case.y, temperature=t) for t in (4.0, 1.0))
    torch.testing.assert_close(4 * hot.potential(case.params, case.noise), warm.potential(case.params, case.noise))


def test_the_prior_moves_with_its_location(case):
    batch, noise = Target(case.model, case.x, case.y).batch(), case.noise
    zero = batch.log_prior(case.params, noise, case.params)
    torch.testing.assert_close(zero, batch.log_prior(0 * case.params, noise))
    torch.testing.assert_close(
        batch.log_prior(case.params, noise), batch.log_prior(2 * case.params, noise, case.params)
    )


def test_members_do_not_mix(case):
    target = Target(case.model, case.x, case.y)
    before = target.potential(case.params, case.noise)
    changed = case.params.clone()
    changed[0] = float("nan")
    after = target.potential(changed, case.noise)
    assert after[0].isnan()
    torch.testing.assert_close(after[1:], before[1:])


def model(outputs=OUT):
    return BayesianModel(StackedNetwork(mlp(IN, outputs, (4,))), Gaussian(), FanInNormal(), outputs)


def bad(tensor):
    tensor = tensor.clone()
    tensor[2, 1], tensor[0, 0] = float("nan"), float("inf")
    return tensor


X, Y = torch.zeros(N, IN), torch.zeros(N, OUT)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((X[:0], Y[:0]), "empty"),
        ((X[:3], Y), "equal rows"),
        ((X, Y[:, 0]), "expected \\(N"),
        ((X.expand(S, N, IN), Y), "equal rows"),
        ((X.expand(2, N, IN), Y.expand(S, N, OUT)), "equal rows"),
        ((X, Y[:, :1]), "1 columns, the model has 2"),
        ((bad(X), Y), "x holds NaN or infinite values in 2 places"),
        ((X, bad(Y)), "y holds NaN"),
        ((X, Y, torch.ones(3)), "weights"),
        ((X, Y, None, 0.0), "temperature=0.0"),
        ((X, Y, None, -1.0), "temperature"),
        ((X, Y, None, float("nan")), "temperature"),
    ],
)
def test_bad_data(arguments, words):
    with pytest.raises(UserError, match=words):
        Target(model(), *arguments)


@pytest.mark.parametrize("weights", [torch.zeros(N), torch.full((N,), float("nan")), -torch.ones(N)])
def test_weights_that_make_no_sense(weights):
    with pytest.raises(UserError, match="weights"):
        Target(model(), X, Y, weights)


def test_gaussian_against_torch():
    likelihood = Gaussian(floor=0.01, initial=0.3)
    raw, f, y = randn(S, OUT), randn(S, N, OUT, seed=1), randn(N, OUT, seed=2)
    truth = Normal(f, likelihood.constrain(raw).unsqueeze(1)).log_prob(y).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(raw, f, y), truth)
    torch.testing.assert_close(likelihood.log_prob(raw, f, y.expand(S, N, OUT)), truth)
    p = likelihood.distribution(likelihood.constrain(raw), f)
    torch.testing.assert_close(p.log_prob(y).sum(-1), truth)


def test_gaussian_starts_at_initial_and_keeps_above_the_floor():
    likelihood = Gaussian(floor=0.01, initial=0.3)
    torch.testing.assert_close(likelihood.constrain(likelihood.init(3, 2)), torch.full((3, 2), 0.3))
    assert likelihood.constrain(torch.tensor(-1e4)) == pytest.approx(0.01)


@pytest.mark.parametrize("values", [(0.0, 0.1), (-1.0, 0.1), (0.2, 0.1), (0.1, 0.1), (float("nan"), 0.1)])
def test_gaussian_refuses_a_floor_above_the_start(values):
    with pytest.raises(UserError, match="floor"):
        Gaussian(*values)


def test_prior_std_by_fan_in():
    network = StackedNetwork(mlp(4, 1, (9,)))
    std = network.layout.split(FanInNormal(1.5, 3.0).std(network.layout))
    expected = {"0.weight": 1.5 / 2, "0.bias": 1.5, "2.weight": 3.0 / 3, "2.bias": 3.0}
    assert {k: v.unique().item() for k, v in std.items()} == pytest.approx(expected)


def test_prior_of_a_bare_layer_and_of_convolutions():
    bare = StackedNetwork(nn.Linear(4, 2))
    assert FanInNormal(1.0, 3.0).std(bare.layout).tolist() == pytest.approx([1.5] * 8 + [3.0] * 2)
    conv = StackedNetwork(nn.Sequential(nn.Conv1d(2, 5, 8), nn.Flatten(), nn.Linear(5, 1)))
    std = conv.layout.split(FanInNormal().std(conv.layout))
    assert std["0.weight"].unique().item() == pytest.approx(1 / 4)


def test_prior_samples_have_that_std_and_belong_to_the_generator():
    network = StackedNetwork(mlp(4, 2, (9,)))
    prior = FanInNormal(1.0, 2.0)
    sample = prior.sample(network.layout, 4000, gen())
    torch.testing.assert_close(
        sample.std(0) / prior.std(network.layout), torch.ones(network.layout.total), atol=0.06, rtol=0
    )
    assert torch.equal(sample, prior.sample(network.layout, 4000, gen()))


@pytest.mark.parametrize("scales", [(0.0, 1.0), (1.0, -2.0), (float("nan"), 1.0)])
def test_prior_refuses_scales(scales):
    with pytest.raises(UserError, match="above 0"):
        FanInNormal(*scales)
