"""Controllers: bounds, forms and options."""

import math

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.dynamics import Geometry
from dynapilco.policies import POLICIES, make_policy

GEOMETRY = Geometry(4, 2, (2,))
LOW, HIGH = torch.tensor([-1.0, 2.0]), torch.tensor([3.0, 2.5])  # neither symmetric nor of one size
SCALE = torch.tensor([0.5, 2.0, 7.0, 0.1])
KWARGS = {"MlpPolicy": {"hidden": (6, 5)}, "RbfPolicy": {"units": 7}, "LinearPolicy": {}}
R, N = 3, 8


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def build(name, low=LOW, high=HIGH, **kwargs):
    return make_policy(name, {**KWARGS[POLICIES.canonical(name)], **kwargs}, GEOMETRY, low, high, SCALE)


@pytest.fixture(params=KWARGS)
def policy(request):
    return build(request.param)


def seen(features):
    """What a policy sees of [x, sin, cos]: scaled states without the raw angle, sine, cosine."""
    return torch.cat([(features[..., :4] * SCALE)[..., [0, 1, 3]], features[..., 4:]], -1)


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=gen(seed))


def test_actions_keep_to_an_asymmetric_box(policy):
    params = policy.init(R, gen())
    states = 100 * randn(50, 4)
    for r in range(R):
        for factor in (1.0, 50.0):
            u = policy.act(factor * params[r], states)
            assert u.shape == (50, 2)
            assert ((u >= LOW) & (u <= HIGH)).all()
    torch.testing.assert_close(policy.squash(torch.zeros(2)), torch.tensor([1.0, 2.25]))
    torch.testing.assert_close(policy.squash(torch.full((2,), 99.0)), HIGH)
    torch.testing.assert_close(policy.squash(torch.full((2,), -99.0)), LOW)


def test_rounding_does_not_lead_out_of_the_box():
    """centre + half rounds to just above the upper bound in one box out of twenty."""
    low = 4 * torch.rand(1000, generator=gen()) - 2
    high = low + 3 * torch.rand(1000, generator=gen(1))
    outside = 0
    for a, b in zip(low.split(2), high.split(2), strict=True):
        policy = build("linear", a, b)
        params = torch.zeros(1, policy.layout.total)
        for sign, bound in ((99.0, b), (-99.0, a)):
            params[:, -2:] = sign
            u = policy.act(params[0], torch.zeros(1, 4))[0]
            assert ((u >= a) & (u <= b)).all()
            outside += int((policy.squash(torch.full((2,), sign)) != bound).sum())
    assert outside > 0


def test_mlp_equals_layers_by_hand():
    policy = build("mlp")
    params, features = policy.init(R, gen()), randn(R, N, 6)
    params = params + 0.1 * randn(*params.shape, seed=2)  # biases too
    named = policy.layout.split(params)
    for r in range(R):
        h = seen(features[r])
        for i in range(3):
            h = h @ named[f"weight{i}"][r] + named[f"bias{i}"][r]
            h = torch.tanh(h) if i < 2 else h
        torch.testing.assert_close(policy.raw(params, features)[r], h, atol=1e-5, rtol=1e-5)


def test_linear_is_linear():
    policy = build("linear")
    params, features = policy.init(R, gen()) + 0.3, randn(R, N, 6)
    named = policy.layout.split(params)
    truth = seen(features) @ named["weight0"] + named["bias0"].unsqueeze(1)
    torch.testing.assert_close(policy.raw(params, features), truth, atol=1e-5, rtol=1e-5)


def test_rbf_equals_a_loop():
    policy = build("rbf", width=0.7)
    params, features = policy.init(R, gen()), randn(R, N, 6)
    named = policy.layout.split(params)
    assert named["log_widths"].unique().item() == pytest.approx(math.log(0.7))
    named["log_widths"] = named["log_widths"] + 0.3 * randn(R, 5, seed=3)
    params = policy.layout.join(named)
    raw = policy.raw(params, features)
    for r in range(R):
        for n in range(N):
            z, total = seen(features[r, n]), torch.zeros(2)
            for k in range(7):
                distance = ((z - named["centres"][r, k]) / named["log_widths"][r].exp()).square().sum()
                total += named["weights"][r, k] * math.exp(-0.5 * float(distance))
            torch.testing.assert_close(raw[r, n], total, atol=1e-4, rtol=1e-4)


def test_dense_form_equals_raw(policy):
    params, features = policy.init(R, gen()), randn(R, N, 6)
    stack = policy.dense(params)
    if isinstance(policy, POLICIES["rbf"]):
        assert stack is None
    else:
        torch.testing.assert_close(stack(features), policy.raw(params, features))


def test_act_is_one_candidate_of_raw(policy):
    params, states = policy.init(R, gen()), randn(N, 4)
    features = GEOMETRY.features(states).expand(R, N, 6)
    every = policy.squash(policy.raw(params, features))
    for r in range(R):
        torch.testing.assert_close(policy.act(params[r], states), every[r], atol=1e-6, rtol=1e-6)


def test_candidates_do_not_mix(policy):
    params, features = policy.init(R, gen()).requires_grad_(True), randn(R, N, 6)
    (gradient,) = torch.autograd.grad(policy.raw(params, features)[1].sum(), params)
    assert gradient[[0, 2]].abs().max() == 0
    assert gradient[1].abs().max() > 0
    broken = params.detach().clone()
    broken[0] = float("nan")
    torch.testing.assert_close(policy.raw(broken, features)[1:], policy.raw(params, features)[1:])


def test_fresh_candidates_differ_and_belong_to_the_generator(policy):
    before = torch.get_rng_state()
    params = policy.init(R, gen())
    assert torch.equal(params, policy.init(R, gen()))
    assert not torch.equal(params[0], params[1])
    assert params.shape == (R, policy.layout.total)
    assert torch.equal(before, torch.get_rng_state())


def test_a_full_turn_of_an_angle_changes_no_action(policy):
    params, states = policy.init(1, gen())[0], randn(N, 4)
    turned = states + 2 * math.pi * torch.tensor([0.0, 0, 1, 0])
    torch.testing.assert_close(policy.act(params, states), policy.act(params, turned), atol=1e-4, rtol=0)


def test_gradients_reach_every_parameter(policy):
    params = policy.init(1, gen()).requires_grad_(True)
    (gradient,) = torch.autograd.grad(policy.squash(policy.raw(params, randn(1, 200, 6))).sum(), params)
    assert (gradient != 0).float().mean() > 0.95


def test_aliases():
    assert set(POLICIES) == {"MlpPolicy", "RbfPolicy", "LinearPolicy"}
    for alias, name in (("mlp", "MlpPolicy"), ("rbf", "RbfPolicy"), ("linear", "LinearPolicy")):
        assert POLICIES.canonical(alias) == name
    assert build("mlp", hidden=[3]).widths == (5, 3, 2)  # a list, as JSON and TOML give


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("MlpPolcy", {}, "unknown policy 'MlpPolcy': did you mean MlpPolicy"),
        ("CnnPolicy", {}, "valid names are LinearPolicy, MlpPolicy, RbfPolicy"),
        ("mlp", {"width": 3}, "policy 'mlp' has no option 'width': valid options are hidden"),
        ("linear", {"hidden": [3]}, "valid options are none"),
        ("mlp", {"hidden": 64}, "hidden=64"),
        ("mlp", {"hidden": []}, "hidden="),
        ("mlp", {"hidden": [8, 0]}, "hidden="),
        ("mlp", {"hidden": [8.0]}, "hidden="),
        ("rbf", {"units": 0}, "units=0"),
        ("rbf", {"units": 2.5}, "units=2.5"),
        ("rbf", {"width": 0.0}, "width=0.0"),
    ],
)
def test_unknown_names_and_bad_options(name, kwargs, words):
    with pytest.raises(UserError, match=words):
        make_policy(name, kwargs, GEOMETRY, LOW, HIGH, SCALE)
