"""Targets in another unit: y' = c y + d has the density of y over |c|."""

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import StackedNetwork, mlp
from dynapilco.inference.draws import make_draw
from dynapilco.inference.likelihoods import Categorical, Gaussian, HeteroscedasticGaussian, Joint, Poisson, StudentT
from tests.inference.harness import gen, rand

S, B, OUT = 3, 5, 2
C, D = torch.tensor([-2.5, 0.3], dtype=torch.float64), torch.tensor([0.7, -4.0], dtype=torch.float64)
SCALED = [
    Gaussian(),
    Gaussian(fixed=0.3),
    HeteroscedasticGaussian(),
    StudentT(),
    StudentT(learn_df=True),
    Joint((("gaussian", 1), ("heteroscedastic", 1))),
    Joint((("heteroscedastic", 2),)),
    Joint(((Gaussian(fixed=0.3), 2),)),
]


def noise_and_outputs(likelihood, outputs=OUT):
    raw = likelihood.init(S, outputs).double()
    raw = raw + rand(*raw.shape, seed=1)
    return likelihood.constrain(raw), rand(S, B, likelihood.network_outputs(outputs), seed=2)


@pytest.mark.parametrize("likelihood", SCALED, ids=repr)
def test_density_of_rescaled_targets(likelihood):
    noise, f = noise_and_outputs(likelihood)
    y = rand(B, OUT, seed=3)
    before = likelihood.distribution(noise, f)
    folded, scale, shift = likelihood.fold(noise, C, D)
    after = likelihood.distribution(folded, scale * f + shift)
    torch.testing.assert_close(after.log_prob(C * y + D), before.log_prob(y) - C.abs().log())
    torch.testing.assert_close(after.mean, C * before.mean + D)
    torch.testing.assert_close(after.variance, C.square() * before.variance)
    # twice in a row, as a dynamics model does when it goes to another unit again
    again, scale2, shift2 = likelihood.fold(folded, 1 / C, -D / C)
    back = likelihood.distribution(again, scale2 * (scale * f + shift) + shift2)
    torch.testing.assert_close(back.log_prob(y), before.log_prob(y))


@pytest.mark.parametrize("likelihood", [Gaussian(), Gaussian(fixed=0.3), StudentT(), StudentT(learn_df=True)], ids=repr)
def test_scale_follows(likelihood):
    noise, f = noise_and_outputs(likelihood)
    folded, _, _ = likelihood.fold(noise, C, D)
    torch.testing.assert_close(likelihood.scale(folded), (likelihood.scale(noise) * C.abs()).expand(S, OUT))
    std = likelihood.distribution(noise, f).stddev
    torch.testing.assert_close(std, likelihood.scale(noise).unsqueeze(1).expand_as(std))


@pytest.mark.parametrize("engine", ["dense", "vmap"])
def test_draws_of_heteroscedastic_networks(engine):
    likelihood = HeteroscedasticGaussian()
    network = StackedNetwork(mlp(3, 2 * OUT, (6,)).double(), engine)
    params = rand(S, network.layout.total, seed=4)
    draw = make_draw(network, params, likelihood.constrain(params.new_zeros(S, 0)), likelihood)
    x = rand(B, 3, seed=5)
    before, after = draw.predictive(x), draw.fold(None, (C, D)).predictive(x)
    torch.testing.assert_close(after.mean, C * before.mean + D)
    torch.testing.assert_close(after.stddev, C.abs() * before.stddev)
    assert before.stddev.std() > 0.01


@pytest.mark.parametrize("likelihood", [Poisson(), Categorical(2)], ids=repr)
def test_counts_and_classes_have_no_unit(likelihood):
    noise, _ = noise_and_outputs(likelihood)
    with pytest.raises(UserError, match="cannot be rescaled"):
        likelihood.fold(noise, C, D)
    with pytest.raises(UserError, match="no constant noise scale"):
        likelihood.scale(noise)


MIXED = Joint((("gaussian", 1), (Categorical(3), 1), ("student_t", 1)))


def test_blocks_without_a_unit_are_left_alone():
    noise, f = noise_and_outputs(MIXED, 3)
    c, d = C.new_tensor([2.0, 1.0, -0.5]), C.new_tensor([1.0, 0.0, 3.0])
    y = torch.cat([rand(B, 1, seed=6), torch.randint(0, 3, (B, 1), generator=gen(7)).double(), rand(B, 1, seed=8)], -1)
    folded, scale, shift = MIXED.fold(noise, c, d)
    before, after = MIXED.distribution(noise, f), MIXED.distribution(folded, scale * f + shift)
    torch.testing.assert_close(after.log_prob(c * y + d), before.log_prob(y) - c.abs().log())


@pytest.mark.parametrize(("c", "d"), [([2.0, 2.0, 1.0], [0.0] * 3), ([1.0] * 3, [0.0, 0.1, 0.0])])
def test_blocks_without_a_unit_refuse_one(c, d):
    noise, _ = noise_and_outputs(MIXED, 3)
    with pytest.raises(UserError, match="block Categorical have no unit"):
        MIXED.fold(noise, torch.tensor(c), torch.tensor(d))


def test_scales_of_a_joint():
    joint = Joint(((Gaussian(fixed=0.3), 2), ("student_t", 1)))
    noise, _ = noise_and_outputs(joint, 3)
    expected = torch.cat([torch.full((S, 2), 0.3), noise[:, 2:] * 2**0.5], -1)
    torch.testing.assert_close(joint.scale(noise), expected)
    with pytest.raises(UserError, match="Categorical"):
        MIXED.scale(noise_and_outputs(MIXED, 3)[0])


def test_fold_needs_a_scale_for_each_column():
    with pytest.raises(UserError, match="expected \\(out,\\)"):
        HeteroscedasticGaussian().fold(torch.ones(S, 1), torch.tensor(2.0), torch.tensor(0.0))


def test_a_module_that_is_no_stack():
    likelihood = Joint((("gaussian", 1), ("bernoulli", 1)))
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    network = StackedNetwork(net)
    params = rand(S, network.layout.total, seed=4)
    draw = make_draw(network, params, likelihood.constrain(likelihood.init(S, 2).double()), likelihood)
    c, d = torch.tensor([3.0, 1.0]).double(), torch.tensor([1.0, 0.0]).double()
    x = rand(B, 3, seed=5)
    torch.testing.assert_close(draw.fold(None, (c, d)).predictive(x).mean, c * draw.predictive(x).mean + d)
