"""Cart-pole swing-up: the task of MC-PILCO and the task of PILCO.

A uniform rod swings on a cart; the force u acts on the cart along the track. The state is
``[x, x_dot, theta, theta_dot]``, theta = 0 hanging, counter-clockwise, not wrapped. With the rod's centre at
(x + l/2 sin(theta), -l/2 cos(theta)) and its moment of inertia m l^2 / 12, the Lagrangian gives

    (M + m) x_ddot + m l/2 cos(theta) theta_ddot = u - b x_dot + m l/2 sin(theta) theta_dot^2
    m l/2 cos(theta) x_ddot + m l^2/3 theta_ddot = -m g l/2 sin(theta)

Sources: Amadio et al., "Model-Based Policy Search Using Monte Carlo Gradient Estimation with Real Systems
Application" (MC-PILCO, 2022); Deisenroth and Rasmussen, "PILCO" (2011), and the PILCO toolbox.
"""

from math import pi, radians
from typing import Any

import numpy as np

from .base import SwingUp, SwingUpEnv, SwingUpVectorEnv, last_second
from .draw import Canvas, draw_cart, draw_force, draw_goal, draw_links, track

# The system (PILCO 2011; MC-PILCO 2022)
CART_MASS = 0.5  # kg
POLE_MASS = 0.5  # kg
LENGTH = 0.5  # m, pivot to tip
FRICTION = 0.1  # N s/m, between cart and track
FORCE_LIMIT = 10.0  # N

# MC-PILCO's task
GRAVITY = 9.81  # m/s^2
DT = 0.05  # s
HORIZON = 60  # steps, 3 s
START_STD = 0.01  # m, m/s, rad, rad/s
REWARD_ANGLE = 3.0  # rad, width of the reward
REWARD_POSITION = 1.0  # m, width of the reward
SUCCESS_POSITION = 0.1  # m
SUCCESS_ANGLE = radians(10.0)  # rad

# PILCO's task
PILCO_GRAVITY = 9.82  # m/s^2
PILCO_DT = 0.1  # s
PILCO_HORIZON = 40  # steps, 4 s
PILCO_START_STD = 0.1  # m, m/s, rad, rad/s
PILCO_REWARD_WIDTH = 0.25  # m
PILCO_SUCCESS_DISTANCE = 0.2 * LENGTH  # m, GPflowPILCO's rule


def squared_tip_distance(state: Any, xp: Any) -> Any:
    """Squared distance of the tip to the upright tip at x = 0.

    Parameters
    ----------
    state
        Shape (..., 4).
    xp
        The namespace of `state`: numpy or torch.

    Returns
    -------
    Shape (...), m^2.
    """
    across = state[..., 0] + LENGTH * xp.sin(state[..., 2])
    below = LENGTH * (1 + xp.cos(state[..., 2]))
    return across**2 + below**2


class CartPole(SwingUp):
    """The system; see the module."""

    length = LENGTH
    friction = FRICTION
    gravity: float
    """Gravity in m/s^2."""
    state_names = ("x", "x_dot", "theta", "theta_dot")
    state_units = ("m", "m/s", "rad", "rad/s")
    action_names = ("force",)
    action_units = ("N",)
    action_limit = FORCE_LIMIT
    angle_indices = (2,)
    position_velocity_pairs = ((0, 1), (2, 3))

    def derivative(self, state: Any, action: Any, xp: Any) -> tuple[Any, ...]:
        """Time derivative of the state; see `SwingUp.derivative`."""
        _, x_dot, theta, theta_dot = state
        sine, cosine = xp.sin(theta), xp.cos(theta)
        half = POLE_MASS * LENGTH / 2
        force = action[0] - self.friction * x_dot + half * sine * theta_dot * theta_dot
        torque = -half * self.gravity * sine
        # The two equations of the module, solved by Cramer's rule
        mass, coupling, inertia = CART_MASS + POLE_MASS, half * cosine, POLE_MASS * LENGTH**2 / 3
        determinant = mass * inertia - coupling * coupling
        x_ddot = (inertia * force - coupling * torque) / determinant
        theta_ddot = (mass * torque - coupling * force) / determinant
        return x_dot, x_ddot, theta_dot, theta_ddot

    def energy(self, state: Any, xp: Any) -> Any:
        """Mechanical energy in J; see `SwingUp.energy`."""
        x_dot, theta, theta_dot = state[..., 1], state[..., 2], state[..., 3]
        half = POLE_MASS * LENGTH / 2
        kinetic = 0.5 * (CART_MASS + POLE_MASS) * x_dot**2 + half * xp.cos(theta) * x_dot * theta_dot
        kinetic = kinetic + POLE_MASS * LENGTH**2 / 6 * theta_dot**2
        return kinetic - half * self.gravity * xp.cos(theta)

    def draw(self, state: np.ndarray, action: np.ndarray) -> Canvas:
        """Draw the track, the cart, the pole, the goal and the force; see `SwingUp.draw`."""
        canvas = track(centre=float(state[0]), half_width=1.3)
        draw_goal(canvas, (0.0, LENGTH))
        pivot = (float(state[0]), 0.0)
        draw_cart(canvas, pivot)
        draw_links(canvas, pivot, [(LENGTH, float(state[2]))])
        draw_force(canvas, pivot, float(action[0]) / FORCE_LIMIT)
        return canvas


class CartPoleSwingUp(CartPole):
    """MC-PILCO's task: a wide reward, and a rule of success in which a further turn counts as failure."""

    gravity = GRAVITY
    dt = DT
    horizon = HORIZON
    start_std = np.full(4, START_STD)

    @staticmethod
    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        """exp(-((|theta| - pi) / 3)^2 - x^2) after the step; see `SwingUp.reward`."""
        angle = (xp.abs(next_state[..., 2]) - pi) / REWARD_ANGLE
        position = next_state[..., 0] / REWARD_POSITION
        return xp.exp(-(angle**2) - position**2)

    @staticmethod
    def success(states: Any, xp: Any) -> Any:
        """|x| < 0.1 m and ||theta| - pi| < 10 degrees during the last second; see `SwingUp.success`."""
        last = last_second(states, DT)
        near = xp.abs(last[..., 0]) < SUCCESS_POSITION
        upright = xp.abs(xp.abs(last[..., 2]) - pi) < SUCCESS_ANGLE
        return (near & upright).all(-1)


class CartPoleSwingUpPILCO(CartPole):
    """PILCO's task: a saturating reward of the tip's distance."""

    gravity = PILCO_GRAVITY
    dt = PILCO_DT
    horizon = PILCO_HORIZON
    start_std = np.full(4, PILCO_START_STD)

    @staticmethod
    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        """exp(-d^2 / (2 0.25^2)), d the tip's distance after the step; see `SwingUp.reward`."""
        return xp.exp(-squared_tip_distance(next_state, xp) / (2 * PILCO_REWARD_WIDTH**2))

    @staticmethod
    def success(states: Any, xp: Any) -> Any:
        """Distance below 0.2 l during the last second; see `SwingUp.success`."""
        distance = squared_tip_distance(last_second(states, PILCO_DT), xp)
        return (distance < PILCO_SUCCESS_DISTANCE**2).all(-1)


class CartPoleSwingUpEnv(CartPoleSwingUp, SwingUpEnv):
    """``dynapilco/CartPoleSwingUp-v0``."""

    metadata = SwingUpEnv.metadata | {"render_fps": 20}


class CartPoleSwingUpVectorEnv(CartPoleSwingUp, SwingUpVectorEnv):
    """``dynapilco/CartPoleSwingUp-v0`` as a vector environment."""

    metadata = SwingUpVectorEnv.metadata | {"render_fps": 20}


class CartPoleSwingUpPILCOEnv(CartPoleSwingUpPILCO, SwingUpEnv):
    """``dynapilco/CartPoleSwingUpPILCO-v0``."""


class CartPoleSwingUpPILCOVectorEnv(CartPoleSwingUpPILCO, SwingUpVectorEnv):
    """``dynapilco/CartPoleSwingUpPILCO-v0`` as a vector environment."""
