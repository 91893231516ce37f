"""What each likelihood accepts as targets, and what it says about the rest."""

import pytest
import torch
from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference import BayesianModel, NormalPrior, StackedNetwork, Target
from dynapilco.inference.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    Joint,
    Poisson,
    StudentT,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("likelihood", "outputs", "y", "words"),
    [
        (Gaussian(), 1, torch.ones(4, 1, dtype=torch.long), "dtype torch.int64.*y.float.*poisson"),
        (StudentT(), 1, torch.ones(4, 1, dtype=torch.long), "StudentT expects real numbers"),
        (HeteroscedasticGaussian(), 1, torch.ones(4, 1, dtype=torch.bool), "expects real numbers"),
        (HeteroscedasticGaussian(), 2, torch.ones(4, 4), "y has 4 columns, the model has 2"),
        (Bernoulli(), 1, torch.tensor([[0.0], [0.5], [1.0]]), "y holds 0.5 in 1 places.*whole numbers"),
        (Bernoulli(), 1, torch.tensor([[0], [2], [-1], [2]]), "y holds -1, 2 in 3 places.*0 or 1"),
        (Bernoulli(), 1, torch.tensor([[0.0], [NAN]]), "y holds nan in 1 places.*finite"),
        (Poisson(), 1, torch.tensor([[0.0], [-3.0]]), "y holds -3 in 1 places.*counts of at least 0"),
        (Poisson(), 1, torch.tensor([[0.0], [1.5]]), "y holds 1.5.*whole"),
        (Poisson(), 1, torch.tensor([[0.0], [torch.inf]]), "y holds inf.*finite"),
        (Poisson(), 2, torch.zeros(4, 3), "y has 3 columns, likelihood Poisson serves 2"),
        (Poisson(), 2, torch.zeros(4), "shape \\(4,\\): expected \\(N, 2\\)"),
        (Categorical(3), 1, torch.tensor([0, 3, 1, 5, 3]), "y holds 3, 5 in 3 places.*class numbers 0 to 2"),
        (Categorical(3), 1, torch.tensor([0, -1]), "y holds -1 in 1 places.*0 to 2"),
        (Categorical(), 1, torch.tensor([0, -1]), "y holds -1 in 1 places.*from 0 on"),
        (Categorical(3), 1, torch.eye(3), "y has 3 columns.*argmax"),
        (Categorical(3), 1, torch.tensor([0.0, 1.5]), "y holds 1.5.*whole"),
        (Categorical(3), 1, torch.tensor([0.0, NAN]), "y holds nan"),
    ],
)
def test_refused(likelihood, outputs, y, words):
    with pytest.raises(UserError, match=words):
        likelihood.prepare(y, outputs)


@pytest.mark.parametrize("y", [torch.tensor([0, 2, 1]), torch.tensor([[0], [2], [1]]), torch.tensor([0.0, 2.0, 1.0])])
@pytest.mark.parametrize("likelihood", [Categorical(3), Categorical()])
def test_classes_become_a_column_of_integers(likelihood, y):
    found = likelihood.prepare(y, 1)
    assert found.dtype == torch.long and found.tolist() == [[0], [2], [1]]


@pytest.mark.parametrize("likelihood", [Bernoulli(), Poisson()])
@pytest.mark.parametrize("y", [torch.tensor([1, 0]), torch.tensor([True, False]), torch.tensor([[1.0], [0.0]])])
def test_counts_become_a_column_of_real_numbers(likelihood, y):
    found = likelihood.prepare(y, 1)
    assert found.dtype == torch.float32 and found.tolist() == [[1.0], [0.0]]


def test_own_data_of_each_member():
    assert Categorical(3).prepare(torch.zeros(5, 4, 1, dtype=torch.long), 1).shape == (5, 4, 1)
    assert Bernoulli().prepare(torch.zeros(5, 4, 2, dtype=torch.float64), 2).dtype == torch.float64


def model(likelihood, width, outputs):
    return BayesianModel(StackedNetwork(nn.Linear(2, width)), likelihood, NormalPrior(), outputs)


def test_through_a_target():
    x = torch.zeros(3, 2)
    target = Target(model(Categorical(3), 3, 1), x, torch.tensor([0, 2, 1]))
    params, points = torch.zeros(4, 9), torch.zeros(4, 0)
    expected = 3 * torch.log(torch.tensor(3.0)) + 9 * 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(target.potential(params, points), expected.expand(4))
    with pytest.raises(UserError, match="y holds 3 in 1 places"):
        Target(model(Categorical(3), 3, 1), x, torch.tensor([0, 3, 1]))
    for likelihood, width in ((StudentT(), 1), (HeteroscedasticGaussian(), 2)):
        with pytest.raises(UserError, match="y holds NaN"):
            Target(model(likelihood, width, 1), x, torch.tensor([[0.0], [NAN], [1.0]]))


def test_a_class_beyond_an_unchecked_width_is_still_named():
    """Without classes= the width is not known to prepare: then the first evaluation says it."""
    target = Target(model(Categorical(), 3, 1), torch.zeros(2, 2), torch.tensor([0, 7]))
    with pytest.raises(UserError, match=r"class 7.*3 classes"):
        target.potential(torch.zeros(1, 9), torch.zeros(1, 0))


def test_blocks_of_a_joint_check_their_own_columns():
    joint = Joint((("gaussian", 2), ("bernoulli", 1), (Categorical(3), 1)))
    y = torch.tensor([[0.5, -2.0, 1.0, 2.0], [0.1, 3.0, 0.0, 0.0]])
    found = joint.prepare(y, 4)
    assert torch.equal(found, y) and found.dtype == y.dtype
    for column, value, words in [(2, 0.5, "block Bernoulli.*0.5"), (3, 3.0, "block Categorical.*holds 3.*0 to 2")]:
        wrong = y.clone()
        wrong[1, column] = value
        with pytest.raises(UserError, match=words):
            joint.prepare(wrong, 4)
    with pytest.raises(UserError, match=r"block Gaussian.*torch.int64"):
        joint.prepare(y.long(), 4)
    with pytest.raises(UserError, match=r"\(2, 3\).*expect \(N, 4\)"):
        joint.prepare(y[:, :3], 3)
    counts = Joint((("poisson", 1), ("bernoulli", 1)))
    assert counts.prepare(torch.tensor([[3, 1]]), 2).tolist() == [[3.0, 1.0]]
