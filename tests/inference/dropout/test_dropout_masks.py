"""Masks, and the KL of masked weights to the prior."""

import itertools
import math

import pytest
import torch

from dynapilco.inference import NormalPrior, StackedNetwork, make_prior, mlp
from dynapilco.inference.dropout import bernoulli_masks, concrete_masks, cross_entropy, entropy, find_sites
from tests.inference.harness import gen, rand

LIKE = torch.zeros((), dtype=torch.float64)


def test_hard_masks_drop_at_their_rate_and_have_mean_one():
    rates = [0.25, torch.tensor([[0.5]], dtype=torch.float64)]
    masks = bernoulli_masks(rates, [7, 3], (4000,), LIKE, gen())
    for mask, rate, width in zip(masks, (0.25, 0.5), (7, 3), strict=True):
        assert mask.shape == (4000, width) and mask.dtype == torch.float64
        assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])
        spread = (rate / (1 - rate) / mask.numel()) ** 0.5
        assert float(mask.mean()) == pytest.approx(1, abs=4 * spread)


def test_rates_differ_between_members():
    rate = torch.tensor([[0.1], [0.9]]).repeat_interleave(2000, 0)
    (mask,) = bernoulli_masks([rate], [5], (4000,), torch.zeros(()), gen())
    dropped = (mask == 0).float().view(2, -1).mean(-1)
    torch.testing.assert_close(dropped, torch.tensor([0.1, 0.9]), atol=0.015, rtol=0)


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.8])
def test_relaxed_masks_become_hard_ones_as_the_temperature_falls(rate):
    logit = [torch.tensor(math.log(rate / (1 - rate)), dtype=torch.float64)]
    (cold,) = concrete_masks(logit, [6], (3000,), gen(), temperature=1e-6)
    assert ((cold < 1e-9) | ((cold - 1 / (1 - rate)).abs() < 1e-9)).all()
    assert float((cold < 1e-9).double().mean()) == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 18000) ** 0.5)
    (warm,) = concrete_masks(logit, [6], (3000,), gen())
    assert float(warm.mean()) == pytest.approx(1, abs=0.08)  # the relaxation at 0.1 moves the mean a little
    assert float((warm - cold).abs().median()) < 1e-3


def test_gradients_of_the_rate_against_finite_differences():
    logit = torch.tensor([[-1.0], [0.5]], dtype=torch.float64, requires_grad=True)
    weight = rand(2, 3, 4)

    def loss(value):
        (mask,) = concrete_masks([value.unsqueeze(-1)], [4], (2, 3), gen(5))
        return (mask * weight).square().sum((1, 2))

    (slope,) = torch.autograd.grad(loss(logit).sum(), logit)
    step = 1e-6
    with torch.no_grad():
        wanted = (loss(logit + step) - loss(logit - step)) / (2 * step)
    torch.testing.assert_close(slope.squeeze(-1), wanted, rtol=1e-6, atol=1e-8)


def test_a_rate_of_almost_nothing_leaves_ones_and_no_bad_numbers():
    logit = torch.tensor(-40.0, requires_grad=True)
    (mask,) = concrete_masks([logit], [50], (50,), gen())
    assert torch.equal(mask, torch.ones_like(mask))
    assert torch.isfinite(torch.autograd.grad(mask.sum(), logit)[0])


# --- KL ---------------------------------------------------------------------------------------------------


class Hidden(NormalPrior):
    """The same density without the closed form."""

    gaussian = False


def problem():
    network = StackedNetwork(mlp(2, 1, (2, 1)).double())  # sites of 2 and 1 units: 8 masks in all
    return network.layout, find_sites(network), rand(2, network.layout.total), torch.tensor([[0.3, 0.6], [0.1, 0.5]])


def enumerated(prior, layout, sites, params, rates):
    """-E[log prior] as a sum over all masks."""
    total = torch.zeros(2, dtype=torch.float64)
    for bits in itertools.product((0.0, 1.0), repeat=3):
        z = torch.tensor(bits, dtype=torch.float64)
        per_unit = torch.stack([rates[:, 0], rates[:, 0], rates[:, 1]], -1)
        chance = torch.where(z > 0, 1 - per_unit, per_unit).prod(-1)
        factor = z / (1 - per_unit)
        theta = sites.scale(params, (factor[:, :2], factor[:, 2:]))
        total -= chance * prior.log_prob(theta, layout)
    return total


def check_cross_entropy(prior, function=cross_entropy):
    layout, sites, params, rates = problem()
    rates = rates.double()
    wanted = enumerated(prior, layout, sites, params, rates)
    torch.testing.assert_close(function(prior, layout, sites, params, rates), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "prior",
    [NormalPrior(0.7), Hidden(0.7), make_prior("fan_in_normal"), make_prior("student_t"), make_prior("laplace")],
)
def test_the_prior_term_is_the_sum_over_all_masks(prior):
    check_cross_entropy(prior)


def test_a_penalty_without_the_keep_probability_is_noticed():
    def broken(prior, layout, sites, params, rates):
        return cross_entropy(prior, layout, sites, params, 0 * rates)

    with pytest.raises(AssertionError):
        check_cross_entropy(NormalPrior(0.7), broken)


def test_entropy_counts_every_unit():
    _, sites, _, rates = problem()
    logits = torch.logit(rates.double())
    p = rates.double()
    own = -(p * p.log() + (1 - p) * (1 - p).log())
    torch.testing.assert_close(entropy(sites, logits), 2 * own[:, 0] + own[:, 1])
    assert torch.isfinite(entropy(sites, torch.full((1, 2), -200.0))).all()
