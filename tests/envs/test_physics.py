"""The ODEs against Lagrange's equations, the integrator against scipy's, conservation of energy."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dynapilco_envs
from dynapilco_envs import cart_pole, double_cart_pole, pendulum
from dynapilco_envs.integrate import SMALL_BATCH, zero_order_hold

ENVS = {
    "cart_pole": cart_pole.CartPoleSwingUpEnv,
    "cart_pole_pilco": cart_pole.CartPoleSwingUpPILCOEnv,
    "pendulum": pendulum.PendulumSwingUpEnv,
    "double_cart_pole": double_cart_pole.DoubleCartPoleSwingUpEnv,
}
FASTEST = {"cart_pole": 15.0, "cart_pole_pilco": 15.0, "pendulum": 15.0, "double_cart_pole": 10.0}  # rad/s


@pytest.fixture(params=ENVS)
def name(request):
    return request.param


def random_states(env, count, fastest, seed=0):
    rng = np.random.default_rng(seed)
    scale = {"m": 2.0, "m/s": 5.0, "rad": 7.0, "rad/s": fastest}
    states = rng.uniform(-1, 1, (count, len(env.state_names))) * [scale[u] for u in env.state_units]
    return states, rng.uniform(-env.action_limit, env.action_limit, (count, 1))


def masses_on_rods(name):
    """Return the Lagrangian as a function of (q, q_dot), from where the masses are.

    A rod is two point masses: half its mass at either of the points (1 +- 1/sqrt(3)) / 2 along it has the
    mass, the centre and the moment of inertia of a uniform rod.
    """
    if name == "pendulum":
        cart, rods, gravity, fixed = 0.0, [(1.0, 1.0)], 9.82, True
    elif name == "double_cart_pole":
        cart, rods, gravity, fixed = 0.5, [(0.5, 0.6), (0.5, 0.6)], 9.82, False
    else:
        cart, rods, gravity, fixed = 0.5, [(0.5, 0.5)], 9.81 if name == "cart_pole" else 9.82, False

    def points(q):
        x, angles = (0.0, q) if fixed else (q[0], q[1:])
        positions, weights, joint = [np.array([x, 0.0])], [cart], np.array([x, 0.0])
        for (mass, length), angle in zip(rods, angles, strict=True):
            along = length * np.array([np.sin(angle), -np.cos(angle)])
            for share in ((1 - 3**-0.5) / 2, (1 + 3**-0.5) / 2):
                positions.append(joint + share * along)
                weights.append(mass / 2)
            joint = joint + along
        return np.array(positions), np.array(weights)

    def lagrangian(q, q_dot):
        positions, weights = points(q)
        step = 1e-20  # complex differentiation: the velocities are exact
        velocities = points(q + 1j * step * q_dot)[0].imag / step
        positions = positions.real
        return 0.5 * weights @ (velocities**2).sum(1) - gravity * weights @ positions[:, 1]

    return lagrangian


def accelerations(lagrangian, q, q_dot, force, h=1e-3):
    """Solve Lagrange's equations, the derivatives of the Lagrangian by central differences."""
    size = q.size
    eye = np.eye(size)

    def momentum(q, q_dot):  # the Lagrangian is quadratic in the velocities, so this is exact
        return np.array([(lagrangian(q, q_dot + e) - lagrangian(q, q_dot - e)) / 2 for e in eye])

    mass = np.array([momentum(q, e) - momentum(q, 0 * e) for e in eye])

    def centred(function):  # fourth order
        near, far = function(h) - function(-h), function(2 * h) - function(-2 * h)
        return (8 * near - far) / (12 * h)

    slope = np.array([centred(lambda s, e=e: lagrangian(q + s * e, q_dot)) for e in eye])
    drift = centred(lambda s: momentum(q + s * q_dot, q_dot))
    return np.linalg.solve(mass, force + slope - drift)


def test_ode_satisfies_lagranges_equations(name):
    env = ENVS[name]()
    lagrangian = masses_on_rods(name)
    states, actions = random_states(env, 20, 5.0)
    for state, action in zip(states, actions, strict=True):
        q, q_dot = state[0::2], state[1::2]
        force = np.zeros(q.size)
        # friction acts where the input does, on the first coordinate
        force[0] = action[0] - (0.01 if name == "pendulum" else 0.1) * q_dot[0]
        slope = np.array(env.derivative(state, action, np))
        assert (slope[0::2] == q_dot).all()
        np.testing.assert_allclose(slope[1::2], accelerations(lagrangian, q, q_dot, force), rtol=1e-6, atol=1e-6)


def test_ode_is_that_of_pilco():
    env = cart_pole.CartPoleSwingUpPILCOEnv()
    cart, pole, length, friction, gravity = 0.5, 0.5, 0.5, 0.1, 9.82
    states, actions = random_states(env, 50, 15.0)
    for state, action in zip(states, actions, strict=True):
        _, x_dot, theta, rate = state
        s, c = np.sin(theta), np.cos(theta)
        force = action[0] - friction * x_dot
        determinant = 4 * (cart + pole) - 3 * pole * c**2
        x_ddot = (2 * pole * length * rate**2 * s + 3 * pole * gravity * s * c + 4 * force) / determinant
        angular = -3 * pole * length * rate**2 * s * c - 6 * (cart + pole) * gravity * s - 6 * force * c
        expected = [x_dot, x_ddot, rate, angular / (length * determinant)]
        np.testing.assert_allclose(env.derivative(state, action, np), expected, rtol=1e-12, atol=1e-12)


def test_integration_is_as_accurate_as_dop853(name):
    env = ENVS[name]()
    states, actions = random_states(env, 30, FASTEST[name])
    ends = zero_order_hold(env.derivative, states, actions, env.dt)
    for state, action, end in zip(states, actions, ends, strict=True):

        def slope(_, z, action=action):
            return env.derivative(z, action, np)

        solution = solve_ivp(slope, (0, env.dt), state, method="DOP853", rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(end, solution.y[:, -1], rtol=0, atol=1e-8)


def test_batch_equals_rows_bit_for_bit(name):
    env = ENVS[name]()
    states, actions = random_states(env, SMALL_BATCH + 20, 40.0)
    states[0] = 0.0
    actions[0] = 0.0
    together = zero_order_hold(env.derivative, states, actions, env.dt)
    alone = [zero_order_hold(env.derivative, s, a, env.dt) for s, a in zip(states, actions, strict=True)]
    assert (together == np.array(alone)).all()
    assert (together[0] == 0).all()


def test_energy_is_conserved_without_friction_and_input(name):
    env = ENVS[name](friction=0.0)
    state = np.zeros(len(env.state_names))
    state[list(env.angle_indices)] = 2.8  # high up, so that it swings through everything
    state[-1] = -0.4
    states = [state]
    for _ in range(round(10 / env.dt)):
        states.append(zero_order_hold(env.derivative, states[-1], np.zeros(1), env.dt))
    energy = env.energy(np.array(states), np)
    assert np.ptp(np.array(states)[:, env.angle_indices[-1]]) > 3
    assert np.abs(energy / energy[0] - 1).max() < 1e-6


def test_energy_is_the_kinetic_and_the_potential_one(name):
    env = ENVS[name]()
    lagrangian = masses_on_rods(name)
    for state in random_states(env, 10, 5.0)[0]:
        q, q_dot = state[0::2], state[1::2]
        potential = -lagrangian(q, 0 * q_dot)
        kinetic = lagrangian(q, q_dot) + potential
        assert env.energy(state, np) == pytest.approx(kinetic + potential, rel=1e-9)


def test_friction_takes_energy(name):
    env = ENVS[name]()
    state = np.ones(len(env.state_names))
    end = zero_order_hold(env.derivative, state, np.zeros(1), env.dt)
    assert env.energy(end, np) < env.energy(state, np)


def test_equilibria(name):
    env = ENVS[name]()
    for angle in (0.0, np.pi):
        state = np.zeros(len(env.state_names))
        state[list(env.angle_indices)] = angle
        np.testing.assert_allclose(env.derivative(state, [0.0], np), 0.0, atol=1e-14)
        env.state = state
        env.step([0.0])
        np.testing.assert_allclose(env.state, state, atol=1e-13)
    # the upper one is unstable, the lower one is not
    displaced = np.zeros((2, len(env.state_names)))
    displaced[1, list(env.angle_indices)] = np.pi
    displaced[:, env.angle_indices[-1]] += 1e-3
    slopes = [np.array(env.derivative(row, [0.0], np))[env.angle_indices[-1] + 1] for row in displaced]
    assert slopes[0] < 0 < slopes[1]


def test_states_that_cannot_be_integrated_are_refused():
    env = cart_pole.CartPoleSwingUpEnv()
    for states in (np.array([0, 0, 0, 1e7]), np.tile([0, 0, 0, 1e7], (SMALL_BATCH, 1))):
        actions = np.zeros((*states.shape[:-1], 1))
        with pytest.raises(ValueError, match="slow enough"):
            zero_order_hold(env.derivative, states, actions, 0.05)
    with pytest.raises(ValueError, match="shapes"):
        zero_order_hold(env.derivative, np.zeros((2, 4)), np.zeros(1), 0.05)
    with pytest.raises(ValueError, match="finite"):
        zero_order_hold(env.derivative, np.full(4, np.nan), np.zeros(1), 0.05)


def test_package_imports_neither_dynapilco_nor_torch_nor_anything_to_draw():
    code = (
        "import sys, dynapilco_envs, gymnasium; "
        "env = gymnasium.make('dynapilco/CartPoleSwingUp-v0', render_mode='rgb_array'); "
        "env.reset(); env.render(); "
        "print([m for m in ('dynapilco', 'torch', 'matplotlib', 'PIL', 'pygame') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_package_registers_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # gymnasium warns of an id that is registered over another
        before = dict(gymnasium.registry)
        dynapilco_envs._register()
    assert dict(gymnasium.registry) == before
    ours = {name for name in before if name.startswith("dynapilco/")} - {"dynapilco/Learned-v0"}  # of dynapilco itself
    assert len(ours) == 4
