"""Particles through draws: both engines, noise, moment matching, common random numbers."""

from dataclasses import replace

import pytest
import torch
from gymnasium import spaces

from dynapilco.core.errors import UserError
from dynapilco.dynamics import DynamicsConfig, DynamicsModel, Geometry, Transitions
from dynapilco.inference import make_method
from dynapilco.policies import make_policy
from dynapilco.rollout import RolloutConfig, Simulator, fused, sample_noise
from dynapilco.rollout.moment_matching import moment_match
from dynapilco.tasks import ActionCodec, Task

GEOMETRY = Geometry(4, 1, (2,), ((0, 1), (2, 3)), 0.05)
LOW, HIGH = torch.tensor([-2.0]), torch.tensor([4.0])
R, T = 3, 7
needs_kernel = pytest.mark.skipif(not fused.available(), reason=str(fused.unavailable_reason()))


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=gen(seed), dtype=dtype)


def reward(state, action, next_state, xp):
    return xp.exp(-((next_state[..., 0] - 0.3) ** 2) - xp.cos(next_state[..., 2])) - 0.01 * action[..., 0] ** 2


TASK = Task(
    GEOMETRY, ActionCodec.of(spaces.Box(LOW.numpy(), HIGH.numpy())), T, reward, None,
    torch.tensor([0.1, 0, -0.2, 0]), torch.full((4,), 0.2), *[("",) * n for n in (4, 4, 1, 1)],
)  # fmt: skip


def fitted(inference="ensemble", noise="process", activation="tanh", members=5):
    kwargs = {"cold_steps": 40}
    kwargs |= {"members": members} if inference == "ensemble" else {"rate": 0.2}
    x, u = randn(80, 4), 2 * randn(80, 1, seed=1)
    accelerations = torch.stack([x[:, 2].sin() + u[:, 0], -x[:, 2].sin() + 0.5 * u[:, 0]], 1)
    moved = x.clone()
    moved[:, [1, 3]] += 0.05 * accelerations
    moved[:, [0, 2]] += 0.05 * x[:, [1, 3]]
    config = DynamicsConfig(hidden=(10, 9), noise=noise, activation=activation)
    model = DynamicsModel(GEOMETRY, config, make_method(inference, kwargs), torch.device("cpu"))
    moved = moved + 0.02 * randn(80, 4, seed=2)
    model.fit(Transitions(x, u, moved, torch.zeros(80), torch.zeros(80, dtype=torch.int64)), gen())
    return model


def controller(name="mlp"):
    kwargs = {"mlp": {"hidden": (8, 6)}, "rbf": {"units": 6}, "linear": {}}[name]
    return make_policy(name, kwargs, GEOMETRY, LOW, HIGH, torch.tensor([1.0, 0.5, 2.0, 0.3]))


class Setup:
    def __init__(self, inference="ensemble", noise="process", mm=False, policy="mlp", draws=None, particles=4, **fit):
        self.draw = fitted(inference, noise, **fit).draw(draws or 5, gen(3))
        self.policy, self.particles = controller(policy), particles
        self.params = self.policy.init(R, gen(4))
        self.noise = sample_noise(TASK, self.draw, T, R, particles, gen(5), moment_matching=mm, action_noise=True)

    def run(self, engine, action_std=0.3, noise=None, params=None):
        """States, actions and the gradient of the mean return of each candidate."""
        params = (self.params if params is None else params).clone().requires_grad_(True)
        simulator = Simulator(self.draw, self.policy, self.particles, engine)
        made = simulator(params, noise or self.noise, T, action_std)
        rewards = reward(made.states[:-1], made.actions, made.states[1:], torch)
        (gradient,) = torch.autograd.grad(rewards.mean((0, 2, 3)).sum(), params)
        return made.states.detach(), made.actions.detach(), gradient


CASES = {
    "ensemble": {},
    "ensemble-sensor": {"noise": "observation"},
    "ensemble-moments": {"mm": True},
    "dropout": {"inference": "mc_dropout", "draws": 20, "particles": 1},
    "dropout-shared-masks": {"inference": "mc_dropout", "draws": 4, "particles": 5},
    "dropout-sensor": {"inference": "mc_dropout", "draws": 20, "particles": 1, "noise": "observation"},
    "dropout-moments": {"inference": "mc_dropout", "draws": 20, "particles": 1, "mm": True},
    "linear-policy": {"policy": "linear"},
    "one-function": {"draws": 1, "particles": 6},
    "sensor-moments": {"noise": "observation", "mm": True},
}


@needs_kernel
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("action_std", [0.0, 0.3])
def test_engines_agree(case, action_std):
    setup = Setup(**CASES[case])
    assert Simulator(setup.draw, setup.policy, setup.particles).engine == "fused"
    kernel, plain = setup.run("fused", action_std), setup.run("torch", action_std)
    for name, one, other, tolerance in zip(
        ("states", "actions", "gradient"), kernel, plain, (2e-5, 5e-5, 1e-4), strict=True
    ):
        scale = max(1e-3, float(other.abs().max()))
        assert (one - other).abs().max() < tolerance * scale * (10 if "moments" in case else 1), name
    assert plain[2].abs().amax(1).min() > 1e-5  # there was something to compare


@needs_kernel
@pytest.mark.parametrize("sensor", [False, True])
def test_engines_agree_on_silu_units_and_gradients_go_through_torch(sensor):
    config = DynamicsConfig(hidden=(33, 20), activation="silu", noise="observation" if sensor else "process")
    model = DynamicsModel(
        GEOMETRY, config, make_method("ensemble", {"members": 5, "cold_steps": 40}), torch.device("cpu")
    )
    x, u = randn(80, 4), randn(80, GEOMETRY.actions, seed=1)
    moved = x + 0.3 * (x.roll(1, 1) * u[:, :1]).sin()
    model.fit(Transitions(x, u, moved, torch.zeros(80), torch.zeros(80, dtype=torch.int64)), gen())
    draw, policy = model.draw(5, gen(3)), controller()
    noise, params = sample_noise(TASK, draw, T, R, 4, gen(5), action_noise=True), policy.init(R, gen(4))
    fused, plain = (Simulator(draw, policy, 4, engine) for engine in ("fused", "torch"))
    with torch.no_grad():
        one, other = fused(params, noise, T, 0.3), plain(params, noise, T, 0.3)
    torch.testing.assert_close(one.states, other.states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.actions, other.actions, rtol=1e-4, atol=1e-4)
    assert not torch.equal(one.states, other.states)
    gradients = []
    for simulator in (fused, plain):
        leaf = params.clone().requires_grad_()
        gradients.append(torch.autograd.grad(simulator(leaf, noise, T, 0.3).states.square().sum(), leaf)[0])
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 1e-5


CHOICES = (2, 3)


def choosing(noise):
    """A draw and a policy whose actions are one of two and one of three."""
    geometry = replace(GEOMETRY, actions=5, choices=CHOICES)
    x, u = randn(80, 4), ActionCodec.of(spaces.MultiDiscrete(CHOICES)).canonical(randn(80, 5, seed=1).numpy())
    moved = x + 0.05 * randn(80, 4, seed=2)
    moved[:, 1] += 0.3 * torch.as_tensor(u) @ torch.tensor([-1.0, 1, -1, 0, 1])
    config = DynamicsConfig(hidden=(10, 9), noise=noise)
    model = DynamicsModel(
        geometry, config, make_method("ensemble", {"members": 5, "cold_steps": 40}), torch.device("cpu")
    )
    model.fit(Transitions(x, torch.as_tensor(u), moved, torch.zeros(80), torch.zeros(80, dtype=torch.int64)), gen())
    policy = make_policy("mlp", {"hidden": (8, 6)}, geometry, torch.zeros(5), torch.ones(5), torch.ones(4))
    return model.draw(5, gen(3)), policy, replace(TASK, geometry=geometry)


@needs_kernel
@pytest.mark.parametrize("noise", ["process", "observation"])
@pytest.mark.parametrize("action_std", [0.0, 1.0])
def test_engines_agree_on_choices(noise, action_std):
    draw, policy, task = choosing(noise)
    random = sample_noise(task, draw, T, R, 4, gen(5), action_noise=True)
    found = []
    for engine in ("fused", "torch"):
        params = policy.init(R, gen(4)).requires_grad_(True)
        made = Simulator(draw, policy, 4, engine)(params, random, T, action_std)
        assert ((made.actions == 0) | (made.actions == 1)).all()
        assert (made.actions.sum(-1) == 2).all()
        rewards = reward(made.states[:-1], made.actions, made.states[1:], torch)
        found.append((made.states.detach(), made.actions.detach(), *torch.autograd.grad(rewards.mean(), params)))
    assert found[0][1].mean((0, 2, 3)).std() > 0.05  # not always the same choice
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() < 1e-4 * max(1e-3, float(other.abs().max()))
    assert found[1][2].abs().max() > 1e-5


@needs_kernel
def test_a_choice_that_is_not_a_number_is_seen():
    draw, policy, task = choosing("process")
    random = sample_noise(task, draw, T, R, 4, gen(5))
    params = policy.init(R, gen(4))
    params[1] = torch.nan
    for engine in ("fused", "torch"):
        made = Simulator(draw, policy, 4, engine)(params, random, T)
        assert torch.isnan(made.actions[:, 1]).all()
        assert torch.isfinite(made.actions[:, [0, 2]]).all()


def test_gumbel_noise_makes_the_probabilities_of_a_softmax():
    draw, _, task = choosing("process")
    noise = sample_noise(task, draw, 200, 1, 100, gen(5), action_noise=True).action
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0])
    picked = (noise + logits).split(CHOICES, -1)
    for group, mine in zip(picked, logits.split(CHOICES), strict=True):
        share = torch.nn.functional.one_hot(group.argmax(-1), len(mine)).float().mean((0, 1, 2, 3))
        torch.testing.assert_close(share, mine.softmax(0), atol=0.01, rtol=0)


def test_what_the_kernel_cannot_run_goes_through_torch():
    assert Simulator(fitted(activation="relu").draw(5, gen()), controller(), 4).engine == "torch"
    draw = fitted().draw(5, gen())
    assert Simulator(draw, controller("rbf"), 4).engine == "torch"
    assert Simulator(draw, controller(), 4, "torch").engine == "torch"
    with pytest.raises(RuntimeError, match="cannot run this"):
        Simulator(draw, controller("rbf"), 4, "fused")
    with pytest.raises(UserError, match="engine='fast'"):
        Simulator(draw, controller(), 4, "fast")


@pytest.mark.parametrize("policy", ["rbf", "mlp"])
def test_a_rollout_by_hand(policy):
    setup = Setup(policy=policy)
    states, actions, _ = setup.run("torch", 0.3)
    noise, draw = setup.noise, setup.draw
    assert torch.equal(states[0], noise.start)
    for r in range(R):
        for s in range(5):
            x = noise.start[r, s]
            for t in range(T):
                raw = setup.policy.raw(setup.params[r : r + 1], GEOMETRY.features(x).unsqueeze(0))[0]
                u = setup.policy.squash(raw + 0.3 * noise.action[t, r, s])
                torch.testing.assert_close(actions[t, r, s], u, atol=1e-5, rtol=1e-4)
                z = torch.cat([GEOMETRY.features(x), u], 1)
                y = draw.functions.each(z.expand(5, *z.shape))[s] + noise.process[t, r, s]
                x = draw.stepping.advance(x, y)
                torch.testing.assert_close(states[t + 1, r, s], x, atol=1e-5, rtol=1e-4)


def test_each_particle_keeps_its_function():
    """tsinf: swapping two functions' particles gives other trajectories, swapping the functions too restores them."""
    setup = Setup()
    simulator = Simulator(setup.draw, setup.policy, setup.particles, "torch")
    order = torch.tensor([3, 1, 4, 0, 2])
    noise = replace(
        setup.noise,
        start=setup.noise.start[:, order],
        process=setup.noise.process[:, :, order],
        action=setup.noise.action[:, :, order],
    )
    plain = simulator(setup.params, setup.noise, T, 0.3).states
    assert (simulator(setup.params, noise, T, 0.3).states - plain[:, :, order]).abs().max() > 1e-3
    functions = setup.draw.functions
    stack = functions.stack
    permuted = replace(
        functions,
        noise=functions.scale[order],
        stack=replace(
            stack, weights=tuple(w[order] for w in stack.weights), biases=tuple(b[order] for b in stack.biases)
        ),
    )
    other = Simulator(replace(setup.draw, functions=permuted), setup.policy, setup.particles, "torch")
    torch.testing.assert_close(other(setup.params, noise, T, 0.3).states, plain[:, :, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("engine", ["torch", pytest.param("fused", marks=needs_kernel)])
@pytest.mark.parametrize("mm", [False, True])
def test_the_same_noise_gives_the_same_rollout_bitwise(engine, mm):
    setup = Setup(mm=mm)
    for one, other in zip(setup.run(engine), setup.run(engine), strict=True):
        assert torch.equal(one, other)
    again = sample_noise(TASK, setup.draw, T, R, 4, gen(5), moment_matching=mm, action_noise=True)
    for one, other in zip(setup.run(engine), setup.run(engine, noise=again), strict=True):
        assert torch.equal(one, other)
    fresh = sample_noise(TASK, setup.draw, T, R, 4, gen(6), moment_matching=mm, action_noise=True)
    assert not torch.equal(setup.run(engine)[0], setup.run(engine, noise=fresh)[0])


@pytest.mark.parametrize("engine", ["torch", pytest.param("fused", marks=needs_kernel)])
@pytest.mark.parametrize("mm", [False, True])
def test_candidates_share_the_noise_and_do_not_mix(engine, mm):
    setup = Setup(mm=mm)
    same = setup.params[:1].expand(R, -1)
    states, _, gradient = setup.run(engine, params=same)
    torch.testing.assert_close(states[:, 0], states[:, 2], atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient[0], gradient[2], atol=1e-6, rtol=1e-4)
    broken = setup.params.clone()
    broken[1] = float("nan")
    good, bad = setup.run(engine), setup.run(engine, params=broken)
    assert bad[0][:, 1, ..., 1:][1:].isnan().any()
    for one, other, axis in zip(good, bad, (1, 1, 0), strict=True):
        rows = torch.tensor([0, 2])
        torch.testing.assert_close(one.index_select(axis, rows), other.index_select(axis, rows), atol=1e-6, rtol=1e-4)


def test_sensor_noise_reaches_the_policy_only():
    setup = Setup(noise="observation")
    assert setup.noise.process is None
    free = replace(setup.noise, sensor=None)
    simulator = Simulator(setup.draw, setup.policy, 4, "torch")
    quiet, loud = (simulator(setup.params, n, T).states for n in (free, setup.noise))
    assert not torch.equal(quiet, loud)
    zero = torch.zeros_like(setup.params)  # a policy that looks at nothing
    torch.testing.assert_close(simulator(zero, free, T).states, simulator(zero, setup.noise, T).states)


def test_noise_has_the_scale_of_each_function():
    draw = fitted(members=3).draw(3, gen(3))
    draw = replace(
        draw, functions=replace(draw.functions, noise=torch.tensor([[0.1, 1, 2, 3], [4, 5, 6, 7], [0, 0, 0, 1.0]]))
    )
    noise = sample_noise(TASK, draw, 20, 2, 500, gen())
    assert noise.process.shape == (20, 2, 3, 500, 4)
    torch.testing.assert_close(noise.process[:, 0].std((0, 2)), draw.functions.scale, rtol=0.05, atol=1e-6)
    assert torch.equal(noise.process[:, 0], noise.process[:, 1])
    assert not torch.equal(noise.process[0], noise.process[1])  # fresh at every step
    assert noise.sensor is noise.resample is noise.action is None


def test_without_noise_on_the_action_the_standard_deviation_means_nothing():
    setup = Setup()
    quiet = replace(setup.noise, action=None)
    assert torch.equal(setup.run("torch", 0.0)[0], setup.run("torch", 0.7, noise=quiet)[0])


@pytest.mark.parametrize(("s", "p"), [(5, 8), (1, 30), (40, 1)])
def test_moment_matching_keeps_mean_and_covariance(s, p):
    x = randn(2, s, p, 4, dtype=torch.float64) @ randn(4, 4, seed=1, dtype=torch.float64) + 3
    x[1] *= torch.tensor([1.0, 10, 0.1, 1])
    z = whitened(s * p, 4)
    out = moment_match(x, z.reshape(1, s, p, 4).expand_as(x))
    for r in range(2):
        before, after = x[r].reshape(-1, 4), out[r].reshape(-1, 4)
        torch.testing.assert_close(after.mean(0), before.mean(0), atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(torch.cov(after.T), torch.cov(before.T), atol=1e-7, rtol=1e-5)


def whitened(n, d):
    z = randn(n, d, seed=9, dtype=torch.float64)
    z = z - z.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(z.T @ z / n), z.T, upper=False).T


def test_normals_of_moment_matching_are_exactly_standard():
    draw = fitted().draw(5, gen(3))
    z = sample_noise(TASK, draw, T, R, 6, gen(), moment_matching=True).resample
    assert z.shape == (T, R, 5, 6, 4)
    flat = z[:, 0].flatten(1, 2)
    torch.testing.assert_close(flat.mean(1), torch.zeros(T, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.transpose(1, 2) @ flat / 30, torch.eye(4).expand(T, 4, 4), atol=1e-5, rtol=0)


def test_fewer_particles_than_columns_are_matched_without_failing():
    draw = fitted().draw(1, gen(3))
    noise = sample_noise(TASK, draw, T, R, 3, gen(), moment_matching=True)
    policy = controller()
    states = Simulator(draw, policy, 3)(policy.init(R, gen()), noise, T).states
    assert torch.isfinite(states).all()


def test_gradients_of_moment_matching_against_finite_differences():
    x = randn(2, 3, 4, 3, dtype=torch.float64).requires_grad_(True)
    z = whitened(12, 3).reshape(1, 3, 4, 3).expand(2, 3, 4, 3)
    assert torch.autograd.gradcheck(lambda x: moment_match(x, z), (x,), eps=1e-6, atol=1e-5)


def test_degenerate_particles():
    """No spread at all stays there; a lost particle loses its candidate only."""
    x = torch.ones(3, 2, 5, 4)
    x[1] = randn(2, 5, 4)
    x[2, 0, 0, 0] = float("nan")
    z = whitened(10, 4).float().reshape(1, 2, 5, 4).expand(3, 2, 5, 4)
    out = moment_match(x, z)
    torch.testing.assert_close(out[0], x[0], atol=1e-4, rtol=0)
    assert torch.isfinite(out[1]).all()
    assert out[2].isnan().all()


def test_rollouts_with_moment_matching_have_the_moments_of_the_moved_particles():
    setup = Setup(mm=True)
    states, _, _ = setup.run("torch")
    flat = states[1:].flatten(2, 3)
    bare = replace(setup.noise, resample=None)
    first = Simulator(setup.draw, setup.policy, 4, "torch")(setup.params, bare, 1, 0.3).states[1].flatten(1, 2)
    torch.testing.assert_close(flat[0].mean(1), first.mean(1), atol=1e-5, rtol=1e-4)
    for r in range(R):
        torch.testing.assert_close(torch.cov(flat[0, r].T), torch.cov(first[r].T), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"propagation": "ts1"}, "unknown propagation 'ts1'"),
        ({"propagation": "moment_match"}, "did you mean moment_matching"),
        ({"total_particles": 0}, "total_particles=0"),
        ({"draws": -1}, "draws=-1"),
    ],
)
def test_bad_settings(kwargs, words):
    with pytest.raises(UserError, match=words):
        RolloutConfig(**kwargs)
