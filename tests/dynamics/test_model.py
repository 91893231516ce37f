"""Transitions and the Bayesian dynamics model."""

from dataclasses import dataclass, replace

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.dynamics import DynamicsConfig, DynamicsModel, Geometry, Transitions
from dynapilco.inference import METHODS, Ensemble, InferenceMethod, make_method, register_inference

CART = Geometry(4, 1, (2,), ((0, 1), (2, 3)), 0.05)
DOUBLE_INTEGRATOR = Geometry(2, 1, (), ((0, 1),), 0.1)
CPU = torch.device("cpu")
METHOD_KWARGS = {
    "ensemble": {"members": 3, "cold_steps": 60, "warm_steps": 20},
    "mc_dropout": {"cold_steps": 60, "warm_steps": 20},
}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(states, actions, next_states):
    n = len(states)
    return Transitions(states, actions, next_states, torch.zeros(n), torch.zeros(n, dtype=torch.int64))


def cart_data(n=60, seed=0):
    """Smooth and nonlinear, with the units far apart; any numbers will do."""
    scale = torch.tensor([10.0, 1.0, 3.0, 0.1])
    x, u = scale * torch.randn(n, 4, generator=gen(seed)), 5 * torch.rand(n, 1, generator=gen(seed + 1))
    moved = x + torch.cat([x[:, 1:2], u, x[:, 2:3].sin(), 0.01 * x[:, 0:1]], 1) * 0.1
    return rows(x, u, moved)


def linear_data(n=150, seed=0, sensor=0.0, process=0.0):
    """v' = v + dt (u - v), p' by the trapezoidal rule; sensor noise on both ends, process noise on v."""
    dt = 0.1
    x, u = 2 * torch.randn(n, 2, generator=gen(seed)), torch.randn(n, 1, generator=gen(seed + 1))
    noise = torch.randn(n, 5, generator=gen(seed + 2))
    dv = dt * (u[:, 0] - x[:, 1]) + process * noise[:, 4]
    moved = torch.stack([x[:, 0] + dt * x[:, 1] + dt / 2 * dv, x[:, 1] + dv], 1)
    return rows(x + sensor * noise[:, :2], u, moved + sensor * noise[:, 2:4])


def build(geometry=CART, inference="ensemble", kwargs=None, **config):
    method = make_method(inference, METHOD_KWARGS[inference] if kwargs is None else kwargs)
    return DynamicsModel(geometry, DynamicsConfig(**{"hidden": (12,), **config}), method, CPU)


@pytest.mark.parametrize("targets", ["velocity", "corrected", "delta"])
@pytest.mark.parametrize("inference", METHOD_KWARGS)
def test_draws_on_raw_features_equal_normalise_network_denormalise(inference, targets):
    model, data = build(CART, inference, targets=targets), cart_data()
    model.fit(data, gen())
    draw = model.draw(3, gen(1))
    bare = model.method.draw(model.bayes, model.state, 3, gen(1))  # in normalised units
    z = torch.cat([data.states, data.states[:, 2:3].sin(), data.states[:, 2:3].cos(), data.actions], 1)
    seen = (z[:, [0, 1, 3, 4, 5, 6]] - model.inputs.mean) / model.inputs.std
    truth = bare(seen) * model.targets.std
    x, u = (t.expand(3, *t.shape) for t in (data.states, data.actions))
    torch.testing.assert_close(draw.outputs(x, u), truth, atol=2e-5, rtol=2e-4)
    torch.testing.assert_close(draw.process_std, bare.scale * model.targets.std)
    expected = data.states @ model.stepping.transition + truth @ model.stepping.effect
    torch.testing.assert_close(draw.step(x.unsqueeze(0), u.unsqueeze(0))[0], expected, atol=2e-5, rtol=2e-4)


def test_steps_of_several_candidates_use_each_function_for_its_own_particles():
    model, data = build(targets="velocity"), cart_data()
    model.fit(data, gen())
    draw = model.draw(3, gen(1))
    x, u = torch.randn(5, 3, 4, 4, generator=gen(2)), torch.randn(5, 3, 4, 1, generator=gen(3))
    noise = torch.randn(5, 3, 4, 2, generator=gen(4))
    y = torch.stack([draw.outputs(x[r], u[r]) for r in range(5)])
    truth = x @ draw.stepping.transition + (y + noise) @ draw.stepping.effect
    torch.testing.assert_close(draw.step(x, u, noise), truth, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("targets", ["velocity", "corrected", "delta"])
@pytest.mark.parametrize("inference", METHOD_KWARGS)
def test_a_known_linear_system_is_learned(inference, targets):
    kwargs = {"rate": 0.0, "cold_steps": 600} if inference == "mc_dropout" else {"members": 3, "cold_steps": 600}
    model = build(DOUBLE_INTEGRATOR, inference, kwargs, targets=targets, hidden=(24,))
    report = model.fit(linear_data(), gen())
    assert not report.diverged
    test = linear_data(seed=50)
    draw = model.draw(3, gen(1))
    x, u = (t.expand(1, 3, *t.shape) for t in (test.states, test.actions))
    error = (draw.step(x, u)[0].mean(0) - test.next_states).square().mean(0).sqrt()
    change = (test.next_states - test.states).square().mean(0).sqrt()
    assert (error < 0.1 * change).all()


def test_the_inference_method_of_a_user_is_reached_by_its_name():
    @register_inference("constant_test_method")
    @dataclass(frozen=True)
    class Constant(InferenceMethod):
        value: float = 0.25
        cold_steps: int = 1

        def init(self, model, generator, replicas=1):
            params, points = model.initial(1, generator)
            return {"params": params.zero_(), "points": points}

        def step(self, state, batch, clock, generator):
            state["params"][:, -batch.model.outputs :] = self.value
            return batch.potential(state["params"], state["points"])

        def draw(self, model, state, size, generator):
            draw = super().draw(model, state, size, generator)
            return replace(draw, noise=torch.full((size, model.outputs), 0.5))

    try:
        model, data = build(inference="constant_test_method", kwargs={"value": 0.5}, targets="velocity"), cart_data()
        model.fit(data, gen())
        draw = model.draw(2, gen())
        x, u = (t.expand(2, *t.shape) for t in (data.states, data.actions))
        torch.testing.assert_close(draw.outputs(x, u), (0.5 * model.targets.std).expand(2, 60, 2))
        torch.testing.assert_close(draw.process_std, (0.5 * model.targets.std).expand(2, 2))
        assert build(inference="ensemble").method != model.method
    finally:
        del METHODS._entries["constant_test_method"]


@pytest.mark.parametrize("noise", ["process", "observation"])
@pytest.mark.parametrize("inference", METHOD_KWARGS)
def test_snapshot_and_restore_are_bitwise(inference, noise):
    model, data = build(CART, inference, noise=noise), cart_data()
    model.fit(data, gen())
    saved = model.snapshot()
    kept = {name: t.clone() for name, t in saved.items()}
    copy = build(CART, inference, noise=noise)
    copy.restore(saved)
    x = torch.randn(3, 5, 4, generator=gen(2))
    u = torch.randn(3, 5, 1, generator=gen(3))

    def answer(model):
        draw = model.draw(3, gen(1))
        return draw.outputs(x, u), draw.functions.scale, draw.sensor_std

    for one, other in zip(answer(model), answer(copy), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    for fitted in (model, copy):  # both go on in the same way, and leave the snapshot alone
        fitted.fit(cart_data(80), gen(4))
    assert all(torch.equal(saved[name], t) for name, t in kept.items())
    again = copy.snapshot()
    assert all(torch.equal(t, again[name]) for name, t in model.snapshot().items())
    assert not torch.equal(again["method/params"], kept["method/params"])


def test_building_and_fitting_touch_no_global_generator():
    before = torch.get_rng_state()
    build().fit(cart_data(), gen())
    assert torch.equal(before, torch.get_rng_state())


def test_constant_columns_give_finite_numbers():
    data = cart_data()
    states = data.states.clone()
    states[:, 0] = 7.0
    moved = data.next_states.clone()
    moved[:, [0, 1]] = states[:, [0, 1]]
    model = build(targets="delta")
    report = model.fit(rows(states, torch.zeros(60, 1), moved), gen())
    assert not report.diverged
    assert all(torch.isfinite(t).all() for t in model.snapshot().values())
    assert torch.isfinite(model.draw(3, gen()).outputs(*(t.expand(3, 60, -1) for t in (states, data.actions)))).all()


def test_a_single_row_can_be_fitted():
    model = build()
    report = model.fit(cart_data(1), gen())
    assert not report.diverged
    assert torch.isfinite(model.draw(2, gen()).functions.scale).all()


def test_sensor_noise_is_estimated():
    model = build(DOUBLE_INTEGRATOR, kwargs={"members": 3, "cold_steps": 700}, noise="observation")
    sensor = torch.tensor([0.1, 0.02])
    model.fit(linear_data(300, sensor=sensor), gen())
    draw = model.draw(3, gen())
    torch.testing.assert_close(draw.sensor_std, sensor, rtol=0.3, atol=0)
    assert draw.process_std is None


def test_process_noise_is_estimated():
    model = build(DOUBLE_INTEGRATOR, kwargs={"members": 3, "cold_steps": 1500}, targets="velocity")
    model.fit(linear_data(300, process=0.05), gen())
    draw = model.draw(3, gen())
    torch.testing.assert_close(draw.process_std, torch.full((3, 1), 0.05), rtol=0.3, atol=0)
    assert draw.sensor_std is None


def test_a_warm_fit_takes_the_warm_steps():
    model = build(kwargs={"members": 2, "cold_steps": 7, "warm_steps": 3})
    assert model.fit(cart_data(), gen()).steps == 7
    anchors = model.state["anchors"].clone()
    assert model.fit(cart_data(), gen()).steps == 3
    assert torch.equal(model.state["anchors"], anchors)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"targets": "velocit"}, "unknown targets 'velocit': did you mean velocity"),
        ({"noise": "sensor"}, "unknown noise 'sensor'"),
        ({"hidden": (8, 0)}, "hidden"),
        ({"activation": "sin"}, "activation='sin'"),
        ({"prior_scale": -1.0}, "dynamics.prior_scale=-1.0"),
        ({"noise_floor": 0.0}, "floor=0.0"),
    ],
)
def test_bad_settings(config, words):
    with pytest.raises(UserError, match=words):
        DynamicsModel(CART, DynamicsConfig(**config), Ensemble(), CPU)


def episode(length=5):
    return (
        torch.randn(length + 1, 2, generator=gen()),
        torch.randn(length, 1, generator=gen(1)),
        torch.arange(1.0 * length),
    )


def test_transitions_of_an_episode():
    observations, actions, rewards = episode()
    made = Transitions.of_episode(observations, actions, rewards, trial=3)
    assert len(made) == 5
    assert torch.equal(made.next_states[:-1], made.states[1:])
    assert torch.equal(made.states[0], observations[0])
    assert torch.equal(made.next_states[-1], observations[-1])
    assert made.trials.tolist() == [3] * 5
    both = Transitions.empty(2, 1).append(made).append(made)
    assert len(both) == 10
    assert torch.equal(both.actions, torch.cat([actions, actions]))
    assert both.tensors().keys() == {"states", "actions", "next_states", "rewards", "trials"}


@pytest.mark.parametrize(("which", "name"), [(0, "observation 2"), (1, "action 2"), (2, "reward 2")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_transitions_name_the_bad_step(which, name, value):
    parts = [t.clone() for t in episode()]
    parts[which][2] = value
    with pytest.raises(UserError, match=f"trial 4: {name} is not finite"):
        Transitions.of_episode(*parts, trial=4)


def test_a_warm_fit_that_diverges_leaves_the_model_as_it_was():
    data, model = cart_data(), build(kwargs={"members": 2, "cold_steps": 60, "warm_steps": 200, "learning_rate": 1e-2})
    model.fit(data, gen())
    before = model.snapshot()
    wild = rows(3 * data.states, data.actions, data.next_states + 2)
    object.__setattr__(model.method, "learning_rate", 1e30)
    report = model.fit(data.append(wild), gen(1))
    assert report.diverged
    for name, tensor in model.snapshot().items():
        assert torch.equal(tensor, before[name]), name


def test_unseen_columns_are_predicted_themselves_and_seen_by_nobody():
    """x' = x + u/2, and the reward 3 + x: without centring its large mean would be far out under the prior."""
    geometry = Geometry(2, 1, unseen=(1,))
    x, u = torch.randn(200, 1, generator=gen(1)), torch.randn(200, 1, generator=gen(2))
    junk = 100 * torch.randn(200, 1, generator=gen(3))
    data = rows(torch.cat([x, junk], 1), u, torch.cat([x + 0.5 * u, 3 + x], 1))
    model = build(geometry, kwargs={"members": 2, "cold_steps": 400})
    model.fit(data, gen())
    draw = model.draw(2, gen())
    predicted = draw.step(data.states.expand(1, 2, -1, -1), u.expand(1, 2, -1, -1))
    assert (predicted - data.next_states).abs().mean() < 0.1
    other = torch.cat([x, -junk], 1).expand(1, 2, -1, -1)
    torch.testing.assert_close(draw.step(other, u.expand(1, 2, -1, -1)), predicted)
    assert geometry.lasting == [0]
    assert geometry.kept(1) == [0, 2]


@pytest.mark.parametrize(
    "kwargs",
    [{"unseen": (2,)}, {"unseen": (0,), "angles": (0,)}, {"choices": (2, 2)}, {"unseen": (1,), "pairs": ((0, 1),)}],
)
def test_geometries_that_do_not_fit(kwargs):
    with pytest.raises(UserError):
        Geometry(2, 1, dt=0.1, **kwargs)


def test_imagined_states_keep_to_the_bounds_and_so_does_a_restored_model():
    model = build(Geometry(4, 1), reach=2.0)
    data = cart_data()
    model.fit(data, gen())
    copy = build(Geometry(4, 1))
    copy.restore(model.snapshot())
    draws = [each.draw(3, gen(1)) for each in (model, copy)]
    low, high = draws[0].stepping.bounds
    assert torch.equal(torch.stack([low, high]), draws[1].stepping.bounds)
    x = torch.zeros(1, 3, 1, 4)
    for _ in range(20):
        x = draws[0].step(x, torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 4), 5.0))
    assert torch.equal(x, high.expand_as(x))
    paired = build(CART)
    paired.fit(data, gen())
    assert paired.draw(2, gen()).stepping.bounds is None
