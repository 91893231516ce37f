"""Blocks of columns, each with its own likelihood."""

import math

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, NormalPrior, StackedNetwork, Target, fit, make_method, mlp
from dynapilco.inference.likelihoods import Bernoulli, Categorical, Gaussian, Joint, StudentT, make_likelihood
from dynapilco.inference.predictive import predictive_of
from dynapilco.inference.random import sample_distribution
from tests.inference.harness import gen, rand

S, B = 3, 6
JOINT = Joint((("gaussian", 2), (("student_t", {"df": 5.0}), 1), ("bernoulli", 1), (Categorical(3), 1)))


def case():
    raw = JOINT.init(S, 5).double()
    raw = raw + rand(*raw.shape, seed=1)
    f = rand(S, B, 7, seed=2)
    bits, classes = (torch.randint(0, n, (B, 1), generator=gen(n)).double() for n in (2, 3))
    return raw, f, torch.cat([rand(B, 3, seed=3), bits, classes], -1)


def test_sizes():
    assert JOINT.columns == 5 and JOINT.network_outputs(5) == 7 and JOINT.target_columns(7) == 5
    assert JOINT.init(S, 5).shape == (S, 3)
    with pytest.raises(UserError, match="8 outputs, expected 7 \\(Gaussian 2, StudentT 1, Bernoulli 1, Categorical 3"):
        JOINT.target_columns(8)
    with pytest.raises(UserError, match=r"outputs=4.*5 target columns"):
        JOINT.network_outputs(4)


def test_the_sum_of_its_blocks():
    raw, f, y = case()
    parts = [
        Gaussian().log_prob(raw[:, :2], f[..., :2], y[:, :2]),
        StudentT(df=5.0).log_prob(raw[:, 2:], f[..., 2:3], y[:, 2:3]),
        Bernoulli().log_prob(raw[:, :0], f[..., 3:4], y[:, 3:4]),
        Categorical(3).log_prob(raw[:, :0], f[..., 4:], y[:, 4:]),
    ]
    torch.testing.assert_close(JOINT.log_prob(raw, f, y), sum(parts))
    weak = Gaussian().log_prior(raw[:, :2]) + StudentT(df=5.0).log_prior(raw[:, 2:])
    torch.testing.assert_close(JOINT.log_prior(raw), weak)


def test_distribution():
    raw, f, y = case()
    p = JOINT.distribution(JOINT.constrain(raw), f)
    assert p.batch_shape == (S, B, 5) and p.event_shape == ()
    torch.testing.assert_close(p.log_prob(y).sum(-1), JOINT.log_prob(raw, f, y))
    assert p.mean.shape == p.variance.shape == (S, B, 5)
    assert p.mean[..., 4].isnan().all()  # a class has no mean
    sample = sample_distribution(p, (20_000,), gen())
    assert sample.shape == (20_000, S, B, 5) and sample.dtype == torch.float64
    spread = (p.variance / 20_000).sqrt()
    assert ((sample.mean(0) - p.mean).abs() < 5 * spread)[..., :4].all()
    ratio = sample.var(0) / p.variance
    assert ((ratio - 1).abs() < 0.1)[..., [0, 1, 3]].all()  # 5 sd of a variance estimate is 0.05
    shares = torch.stack([(sample[..., 4] == c).double().mean(0) for c in range(3)], -1)
    torch.testing.assert_close(shares, f[..., 4:].softmax(-1), atol=0.02, rtol=0)  # 5 sd is 0.018
    with pytest.raises(NotImplementedError):
        p.cdf(y)


def test_predictive_of_a_joint():
    raw, f, y = case()
    joint = Joint((("gaussian", 2), ("bernoulli", 1)))
    p = predictive_of(joint.distribution(joint.constrain(raw[:, :2]), f[..., :3]), gen())
    assert p.mean.shape == (B, 3) and p.sample(10).shape == (10, B, 3)
    torch.testing.assert_close(p.mean[:, 2], f[..., 2].sigmoid().mean(0))
    expected = joint.log_prob(raw[:, :2], f[..., :3], y[:, [0, 1, 3]]).logsumexp(0) - math.log(S)
    torch.testing.assert_close(p.log_prob(y[:, [0, 1, 3]]), expected)
    assert p.quantile(0.5).shape == (B, 3)


def test_all_blocks_with_a_distribution_function_have_one():
    joint = Joint((("gaussian", 1), ("heteroscedastic", 1)))
    p = joint.distribution(joint.constrain(joint.init(S, 2)), torch.zeros(S, B, 3))
    torch.testing.assert_close(p.cdf(torch.zeros(B, 2)), torch.full((S, B, 2), 0.5))


def test_joint_of_joints():
    raw, f, y = case()
    inner = Joint((("bernoulli", 1), (Categorical(3), 1)))
    nested = Joint((("gaussian", 2), (StudentT(df=5.0), 1), (inner, 2)))
    torch.testing.assert_close(nested.log_prob(raw, f, y), JOINT.log_prob(raw, f, y))


def test_blocks_by_name_are_plain_values():
    """So that they can be written to JSON and read again, with lists for tuples."""
    assert JOINT.blocks[1] == (("student_t", (("df", 5.0),)), 1)
    again = make_likelihood("joint", blocks=[["gaussian", 2], [["student_t", [["df", 5.0]]], 1]])
    assert again == Joint((("gaussian", 2), (("student_t", {"df": 5.0}), 1)))
    assert hash(again) == hash(make_likelihood("joint", blocks=again.blocks))


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ((), "expected pairs"),
        ("gaussian", "expected pairs"),
        (("gaussian", 2), "'gaussian' is no pair"),
        ((("gaussian", 0),), "is no pair"),
        ((("gaussian", 1.0),), "is no pair"),
        ((("gaussain", 1),), "did you mean gaussian"),
        ((("categorical", 1),), "give classes"),
        (((("student_t", {"dof": 3}), 1),), "no option 'dof'.*df, learn_df"),
    ],
)
def test_blocks_that_make_no_sense(blocks, words):
    with pytest.raises(UserError, match=words):
        Joint(blocks)


def test_learned_rewards_and_terminations():
    """One network learns a smooth reward and a sharp termination from the same rows."""
    x = rand(200, 2, seed=4).float()
    y = torch.stack([x[:, 0] - x[:, 1], (x[:, 0] > 0.3).float()], -1)
    joint = Joint((("gaussian", 1), ("bernoulli", 1)))
    model = BayesianModel(StackedNetwork(mlp(2, 2, (16,))), joint, NormalPrior(3.0), 2)
    method = make_method("adam", {"members": 2})
    state = method.init(model, gen(1))
    fit(method, state, Target(model, x, y), gen(2), steps=600)
    with torch.no_grad():
        mean = method.draw(model, state, 2, gen(3)).predictive(x).mean.mean(0)
    assert (mean[:, 0] - y[:, 0]).square().mean().sqrt() < 0.15
    assert ((mean[:, 1] > 0.5) == (y[:, 1] > 0.5)).float().mean() > 0.95
