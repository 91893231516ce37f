"""A prior of its own for each group of parameters."""

import pytest
import torch
from torch import distributions as td
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, Gaussian, StackedNetwork, Target, mlp
from dynapilco.inference.priors import FanInNormal, LaplacePrior, NormalPrior, PerLayer, StudentTPrior, make_prior
from tests.inference.harness import gen, rand

LAYOUT = StackedNetwork(mlp(3, 2, (4,))).layout  # 0.weight, 0.bias, 2.weight, 2.bias
N = LAYOUT.total
PLACES = LAYOUT.slices()
MIXED = make_prior({"*.bias": td.Normal(0.0, 0.3), "0.*": ("student_t", {"df": 5.0}), "*": LaplacePrior(0.5)})


def test_each_parameter_by_its_own():
    params = rand(5, N)
    pieces = LAYOUT.split(params)
    expected = (
        td.Normal(0.0, 0.3).log_prob(pieces["0.bias"]).flatten(1).sum(-1)
        + td.Normal(0.0, 0.3).log_prob(pieces["2.bias"]).flatten(1).sum(-1)
        + td.StudentT(5.0).log_prob(pieces["0.weight"]).flatten(1).sum(-1)
        + td.Laplace(0.0, 0.5).log_prob(pieces["2.weight"]).flatten(1).sum(-1)
    )
    torch.testing.assert_close(MIXED.log_prob(params, LAYOUT), expected, rtol=1e-6, atol=1e-6)
    assert MIXED.log_prob(params.float(), LAYOUT).dtype == torch.float32 and not MIXED.gaussian


def test_spread_samples_and_curvature_lie_in_place():
    std, sample = LAYOUT.split(MIXED.std(LAYOUT)), MIXED.sample(LAYOUT, 20_000, gen(1))
    expected = {"0.weight": (5 / 3) ** 0.5, "0.bias": 0.3, "2.weight": 0.5 * 2**0.5, "2.bias": 0.3}
    assert {name: v.unique().item() for name, v in std.items()} == pytest.approx(expected)
    torch.testing.assert_close(sample.std(0) / MIXED.std(LAYOUT), torch.ones(N), atol=0.1, rtol=0)  # 5 sd of t(5): 0.1
    params = rand(5, N)
    curvature = LAYOUT.split(MIXED.curvature(params, LAYOUT))
    assert curvature["2.bias"].unique().item() == pytest.approx(1 / 0.09, rel=1e-5)
    assert not curvature["2.weight"].any()
    torch.testing.assert_close(
        curvature["0.weight"].flatten(1), StudentTPrior(5.0).curvature(params[:, PLACES["0.weight"]], LAYOUT)
    )


def test_the_first_pattern_wins():
    scales = LAYOUT.split(
        PerLayer({"0.bias": NormalPrior(1.0), "*": NormalPrior(2.0), "2.*": NormalPrior(3.0)}).std(LAYOUT)
    )
    assert {name: v.unique().item() for name, v in scales.items()} == {
        "0.weight": 2.0, "0.bias": 1.0, "2.weight": 2.0, "2.bias": 2.0,
    }  # fmt: skip


def test_normals_together_are_gaussian():
    prior = PerLayer({"0.*": NormalPrior(0.5), "*": td.Normal(0.0, 2.0)})
    params = rand(5, N)
    assert prior.gaussian
    std = prior.std(LAYOUT).double()
    torch.testing.assert_close(prior.log_prob(params, LAYOUT), td.Normal(0.0, std).log_prob(params).sum(-1))
    torch.testing.assert_close(
        prior.curvature(params, LAYOUT), std.square().reciprocal().expand(5, N), rtol=1e-6, atol=0
    )


def test_fan_in_knows_the_last_layer_of_the_whole_network():
    prior = PerLayer({"0.*": FanInNormal(1.5, 3.0), "2.*": FanInNormal(1.5, 3.0)})
    torch.testing.assert_close(prior.std(LAYOUT), FanInNormal(1.5, 3.0).std(LAYOUT))
    nested = PerLayer({"0.*": PerLayer({"*": "fan_in_normal"}), "*": "fan_in_normal"})
    torch.testing.assert_close(nested.std(LAYOUT), FanInNormal().std(LAYOUT))


def test_names_without_a_prior_are_listed():
    prior = make_prior({"0.*": "normal", "*.scale": "laplace"})
    for call in (prior.std, prior.check, lambda layout: prior.log_prob(rand(1, N), layout)):
        with pytest.raises(UserError, match=r"no pattern matches 2.weight, 2.bias; the patterns are 0.\*, \*.scale"):
            call(LAYOUT)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({}, "expected patterns"),
        ({1: "normal"}, "expected patterns"),
        ((("*",),), "expected patterns"),
        ({"*": "normall"}, "did you mean normal"),
        ({"*": ("normal", {"std": 1.0})}, "no option 'std': valid options are scale"),
        ({"*": td.Gamma(1.0, 1.0)}, "prior Gamma has the support"),
        ({"*": None}, "unknown prior None"),
    ],
)
def test_mappings_that_make_no_sense(layers, words):
    with pytest.raises(UserError, match=words):
        make_prior(layers) if isinstance(layers, dict) else PerLayer(layers)


def test_by_names_it_is_made_of_plain_values():
    """So that it can be written to JSON and read again, with lists for tuples."""
    prior = PerLayer({"0.*": ("student_t", {"df": 5.0}), "*": "normal"})
    assert PerLayer([["0.*", ["student_t", [["df", 5.0]]]], ["*", "normal"]]) == prior  # pyright: ignore
    assert hash(prior) == hash(PerLayer(prior.layers))


def test_through_a_target_and_with_convolutions():
    net = nn.Sequential(nn.Conv1d(2, 3, 2), nn.LayerNorm(3), nn.Flatten(), nn.Linear(9, 1))
    network = StackedNetwork(net)
    prior = make_prior({"1.*": td.Normal(1.0, 0.1), "*.weight": "horseshoe", "*": "normal"})
    model = BayesianModel(network, Gaussian(), prior, 1)
    params, points = model.initial_from_prior(4, gen(1))
    potential = Target(model, rand(5, 2, 4).float(), rand(5, 1).float()).potential(params, points)
    assert potential.shape == (4,) and torch.isfinite(potential).all()
    norm = network.layout.split(prior.sample(network.layout, 1000, gen(2)))["1.weight"]
    assert norm.mean().item() == pytest.approx(1.0, abs=0.01)
