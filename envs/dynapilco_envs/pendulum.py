"""Pendulum swing-up, with a torque too weak to lift the rod at once.

A uniform rod hangs on a fixed pivot, at which the torque u acts. The state is ``[theta, theta_dot]``,
theta = 0 hanging, counter-clockwise, not wrapped:

    m l^2/3 theta_ddot = u - b theta_dot - m g l/2 sin(theta)

Source: the pendulum of kusanagi and prob_mbrl (McHutchon's and Gal's line of experiments).
"""

from typing import Any

import numpy as np

from .base import SwingUp, SwingUpEnv, SwingUpVectorEnv, last_second
from .draw import Canvas, draw_goal, draw_links, draw_torque, wall

MASS = 1.0  # kg
LENGTH = 1.0  # m, pivot to tip
FRICTION = 0.01  # N m s/rad, at the pivot
GRAVITY = 9.82  # m/s^2
TORQUE_LIMIT = 2.5  # N m
DT = 0.1  # s
HORIZON = 40  # steps, 4 s
START_STD = 0.1  # rad, rad/s
REWARD_WIDTH = 0.5  # m
SUCCESS_DISTANCE = 0.2 * LENGTH  # m, GPflowPILCO's rule


def squared_tip_distance(state: Any, xp: Any) -> Any:
    """Squared distance of the tip to the upright tip.

    Parameters
    ----------
    state
        Shape (..., 2).
    xp
        The namespace of `state`: numpy or torch.

    Returns
    -------
    Shape (...), m^2.
    """
    return 2 * LENGTH**2 * (1 + xp.cos(state[..., 0]))


class PendulumSwingUp(SwingUp):
    """The task; see the module."""

    dt = DT
    length = LENGTH
    horizon = HORIZON
    friction = FRICTION
    state_names = ("theta", "theta_dot")
    state_units = ("rad", "rad/s")
    action_names = ("torque",)
    action_units = ("N m",)
    action_limit = TORQUE_LIMIT
    angle_indices = (0,)
    position_velocity_pairs = ((0, 1),)
    start_std = np.full(2, START_STD)

    def derivative(self, state: Any, action: Any, xp: Any) -> tuple[Any, ...]:
        """Time derivative of the state; see `SwingUp.derivative`."""
        theta, theta_dot = state
        torque = action[0] - self.friction * theta_dot - MASS * GRAVITY * LENGTH / 2 * xp.sin(theta)
        return theta_dot, torque / (MASS * LENGTH**2 / 3)

    def energy(self, state: Any, xp: Any) -> Any:
        """Mechanical energy in J; see `SwingUp.energy`."""
        theta, theta_dot = state[..., 0], state[..., 1]
        return MASS * LENGTH**2 / 6 * theta_dot**2 - MASS * GRAVITY * LENGTH / 2 * xp.cos(theta)

    @staticmethod
    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        """exp(-d^2 / (2 0.5^2)), d the tip's distance after the step; see `SwingUp.reward`."""
        return xp.exp(-squared_tip_distance(next_state, xp) / (2 * REWARD_WIDTH**2))

    @staticmethod
    def success(states: Any, xp: Any) -> Any:
        """Distance below 0.2 l during the last second; see `SwingUp.success`."""
        return (squared_tip_distance(last_second(states, DT), xp) < SUCCESS_DISTANCE**2).all(-1)

    def draw(self, state: np.ndarray, action: np.ndarray) -> Canvas:
        """Draw the rod, the goal and the torque; see `SwingUp.draw`."""
        canvas = wall(half_height=1.25)
        draw_goal(canvas, (0.0, LENGTH))
        draw_links(canvas, (0.0, 0.0), [(LENGTH, float(state[0]))])
        draw_torque(canvas, (0.0, 0.0), float(action[0]) / TORQUE_LIMIT)
        return canvas


class PendulumSwingUpEnv(PendulumSwingUp, SwingUpEnv):
    """``dynapilco/PendulumSwingUp-v0``."""


class PendulumSwingUpVectorEnv(PendulumSwingUp, SwingUpVectorEnv):
    """``dynapilco/PendulumSwingUp-v0`` as a vector environment."""
