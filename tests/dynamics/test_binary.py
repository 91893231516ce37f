"""Columns that answer yes or no, as the end of an episode does: probabilities, by every inference method."""

from dataclasses import dataclass

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.dynamics import DynamicsConfig, DynamicsModel, Geometry, Transitions
from dynapilco.dynamics.calibration import one_step
from dynapilco.dynamics.model import binary_refusal, is_binary
from dynapilco.inference import METHODS, Ensemble, Gaussian, make_method
from dynapilco.policies import make_policy
from dynapilco.rollout import RolloutNoise, Simulator, fused

ANSWERS = Geometry(4, 1, unseen=(2, 3), binary=(3,))
NUMBERS = Geometry(4, 1, unseen=(2, 3))
CPU = torch.device("cpu")
EDGE = 0.9


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def walks(rows, seed=0):
    """x' = x + 0.2 u, a reward x'_0, and an end where x'_0 > 0.9: a few rows in a hundred."""
    x, u = 2 * torch.rand(rows, 2, generator=gen(seed)) - 1, 2 * torch.rand(rows, 1, generator=gen(seed + 1)) - 1
    after = x + 0.2 * u * torch.tensor([1.0, 0.5])
    seen = torch.cat([after, after[:, :1], (after[:, :1] > EDGE).float()], 1)
    return Transitions(
        torch.cat([x, torch.zeros(rows, 2)], 1), u, seen, seen[:, 2], torch.zeros(rows, dtype=torch.int64)
    )


def fitted(geometry, inference="random_features", **config):
    kwargs = {"members": 10, "cold_steps": 120} if inference == "random_features" else {"cold_steps": 30}
    model = DynamicsModel(geometry, DynamicsConfig(**config), make_method(inference, kwargs), CPU)
    assert not model.fit(walks(200), gen()).diverged
    return model


@pytest.fixture(scope="module")
def answers():
    return fitted(ANSWERS)


@pytest.fixture(scope="module")
def numbers():
    return fitted(NUMBERS)


def predicted(model, test):
    draw = model.draw(10, gen(1))
    x, u = (t.expand(1, 10, *t.shape) for t in (test.states, test.actions))
    return draw.step(x, u)[0][..., 3]


def test_a_learned_end_is_calibrated_and_better_than_a_thresholded_regression(answers, numbers):
    assert 3 <= walks(200).next_states[:, 3].sum() <= 15
    test = walks(3000, 50)
    truth = test.next_states[:, 3]
    p, number = predicted(answers, test).sigmoid().mean(0), predicted(numbers, test).mean(0)
    brier, thresholded = (p - truth).square().mean(), ((number > 0.5).float() - truth).square().mean()
    assert brier < thresholded
    away = test.next_states[:, 0] - EDGE
    assert p[away < -0.25].mean() < 0.005
    assert p[away > 0.15].mean() > 0.8
    assert p.mean() == pytest.approx(float(truth.mean()), abs=0.03)  # 200 rows know their share to 0.014


@pytest.mark.parametrize("inference", list(METHODS))
def test_every_method_takes_answers_beside_numbers(inference):
    kwargs = {"cold_steps": 20} | ({"members": 2} if inference == "ensemble" else {})
    method = make_method(inference, kwargs)
    assert binary_refusal(ANSWERS, DynamicsConfig(hidden=(8,)), method) is None
    model = DynamicsModel(ANSWERS, DynamicsConfig(hidden=(8,)), method, CPU)
    model.fit(walks(60), gen())
    draw = model.draw(3, gen(1))
    assert draw.process_std.shape == (3, 4)
    assert (draw.process_std[:, :3] > 0).all() and (draw.process_std[:, 3] == 0).all()
    score = one_step(draw, walks(50, 9), model.targets.std, gen(2))
    assert 0 <= score.brier <= 1 and score.columns == (0, 1)


def test_the_brier_score_is_that_of_the_mean_probability(answers, numbers):
    model, test = answers, walks(100, 9)
    p = predicted(model, test).sigmoid().mean(0)
    score = one_step(model.draw(10, gen(1)), test, model.targets.std, gen(2))
    assert score.brier == pytest.approx(float((p - test.next_states[:, 3]).square().mean()), rel=1e-5)
    assert one_step(numbers.draw(10, gen(1)), test, model.targets.std, gen(2)).brier is None


def test_targets_that_are_answers_are_not_normalised_and_have_no_noise(numbers):
    model = fitted(ANSWERS, "swag", noise="observation")
    assert (float(model.targets.mean[3]), float(model.targets.std[3])) == (0.0, 1.0)
    assert float(model.sensor_std[3]) == 0 and (model.sensor_std[:2] > 0).all()
    saved = model.snapshot()
    assert is_binary(saved) and not is_binary(numbers.snapshot())
    copy = DynamicsModel(ANSWERS, DynamicsConfig(noise="observation"), model.method, CPU)
    copy.restore(saved)
    assert torch.equal(predicted(copy, walks(20, 9)), predicted(model, walks(20, 9)))


def test_logits_pass_both_engines_alike(answers):
    if not fused.available():
        pytest.skip(str(fused.unavailable_reason()))
    draw = answers.draw(10, gen(1))
    policy = make_policy("linear", None, ANSWERS, -torch.ones(1), torch.ones(1), torch.ones(4))
    params = policy.init(2, gen(2))
    start = walks(40, 3).states.reshape(1, 10, 4, 4).expand(2, -1, -1, -1)
    noise = RolloutNoise(start, torch.zeros(5, 2, 10, 4, 4), None, None, None)
    one, other = (Simulator(draw, policy, 4, engine)(params, noise, 5).states for engine in ("fused", "torch"))
    torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)
    assert one[..., 3].std() > 1  # logits, not probabilities


def test_what_is_shown_of_imagined_states_are_probabilities():
    states = torch.tensor([[1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, -40.0]])
    assert torch.equal(ANSWERS.shown(states)[:, :3], states[:, :3])
    torch.testing.assert_close(ANSWERS.shown(states)[:, 3], torch.tensor([0.5, 0.0]))
    assert states[1, 3] == -40 and NUMBERS.shown(states) is states


@dataclass(frozen=True)
class NumbersOnly(Ensemble):
    def refusal(self, model):
        return None if isinstance(model.likelihood, Gaussian) else "knows the Gaussian likelihood only"


def test_a_method_that_knows_numbers_only_says_so():
    assert binary_refusal(ANSWERS, DynamicsConfig(), NumbersOnly()) == "knows the Gaussian likelihood only"
    assert binary_refusal(NUMBERS, DynamicsConfig(), NumbersOnly()) is None
    with pytest.raises(UserError, match="knows the Gaussian likelihood only"):
        DynamicsModel(ANSWERS, DynamicsConfig(), NumbersOnly(), CPU)
    assert "target_noise=True" in str(binary_refusal(ANSWERS, DynamicsConfig(), Ensemble(target_noise=True)))


def test_binary_columns_must_be_unseen():
    with pytest.raises(UserError, match="binary"):
        Geometry(2, 1, unseen=(1,), binary=(0,))
