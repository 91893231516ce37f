"""Double cart-pole swing-up: two links on a cart, only the cart driven.

The links are uniform rods; the force u acts on the cart along the track. The state is ``[x, x_dot, theta1,
theta1_dot, theta2, theta2_dot]``; both angles are absolute, 0 hanging, counter-clockwise, not wrapped.

Derivation. The first link ends in the joint (x + l1 sin1, -l1 cos1); the links' centres are half a link below
the pivot and the joint. Their velocities are

    v1 = (x_dot + l1/2 cos1 theta1_dot,                          l1/2 sin1 theta1_dot)
    v2 = (x_dot + l1 cos1 theta1_dot + l2/2 cos2 theta2_dot,     l1 sin1 theta1_dot + l2/2 sin2 theta2_dot)

With the moments of inertia m l^2 / 12 the kinetic energy is 1/2 q_dot' M(q) q_dot, q = (x, theta1, theta2):

        | M + m1 + m2     p1 cos1                  p2 cos2               |    p1 = (m1/2 + m2) l1
    M = | p1 cos1         (m1/3 + m2) l1^2         p2 l1 cos(1 - 2)      |    p2 = m2 l2 / 2
        | p2 cos2         p2 l1 cos(1 - 2)         m2 l2^2 / 3           |

and the potential one -g (p1 cos1 + p2 cos2). Lagrange's equations, with friction b on the track, are

    M q_ddot = | u - b x_dot + p1 sin1 theta1_dot^2 + p2 sin2 theta2_dot^2 |
               | -p2 l1 sin(1 - 2) theta2_dot^2 - p1 g sin1                |
               |  p2 l1 sin(1 - 2) theta1_dot^2 - p2 g sin2                |

Sources of the task: the PILCO toolbox's double cart-pole, with kusanagi's step, horizon and start. The
distance in the reward is that of the true links (the toolbox takes links of 1 m).
"""

from typing import Any

import numpy as np

from .base import SwingUp, SwingUpEnv, SwingUpVectorEnv, last_second
from .draw import Canvas, draw_cart, draw_force, draw_goal, draw_links, track

CART_MASS = 0.5  # kg
LINK_MASSES = (0.5, 0.5)  # kg
LINK_LENGTHS = (0.6, 0.6)  # m
FRICTION = 0.1  # N s/m, between cart and track
GRAVITY = 9.82  # m/s^2
FORCE_LIMIT = 20.0  # N
DT = 0.1  # s
HORIZON = 30  # steps, 3 s
START_STD = 0.1  # m, m/s, rad, rad/s
REWARD_WIDTH = 0.5  # m
LENGTH = LINK_LENGTHS[0] + LINK_LENGTHS[1]  # m, pivot to tip with both links in line
SUCCESS_DISTANCE = 0.2 * LENGTH  # m, GPflowPILCO's rule

# The entries of the mass matrix that are constant, and the factors of the others
TOTAL_MASS = CART_MASS + LINK_MASSES[0] + LINK_MASSES[1]
MOMENT_1 = (LINK_MASSES[0] / 2 + LINK_MASSES[1]) * LINK_LENGTHS[0]  # p1, kg m
MOMENT_2 = LINK_MASSES[1] / 2 * LINK_LENGTHS[1]  # p2, kg m
COUPLING = MOMENT_2 * LINK_LENGTHS[0]  # kg m^2
INERTIA_1 = (LINK_MASSES[0] / 3 + LINK_MASSES[1]) * LINK_LENGTHS[0] ** 2  # kg m^2
INERTIA_2 = LINK_MASSES[1] / 3 * LINK_LENGTHS[1] ** 2  # kg m^2


def squared_tip_distance(state: Any, xp: Any) -> Any:
    """Squared distance of the second link's tip to the upright tip at x = 0.

    Parameters
    ----------
    state
        Shape (..., 6).
    xp
        The namespace of `state`: numpy or torch.

    Returns
    -------
    Shape (...), m^2.
    """
    first, second = LINK_LENGTHS
    across = state[..., 0] + first * xp.sin(state[..., 2]) + second * xp.sin(state[..., 4])
    below = first * (1 + xp.cos(state[..., 2])) + second * (1 + xp.cos(state[..., 4]))
    return across**2 + below**2


class DoubleCartPoleSwingUp(SwingUp):
    """The task; see the module. `length` is that of both links together."""

    dt = DT
    length = LENGTH
    horizon = HORIZON
    friction = FRICTION
    state_names = ("x", "x_dot", "theta1", "theta1_dot", "theta2", "theta2_dot")
    state_units = ("m", "m/s", "rad", "rad/s", "rad", "rad/s")
    action_names = ("force",)
    action_units = ("N",)
    action_limit = FORCE_LIMIT
    angle_indices = (2, 4)
    position_velocity_pairs = ((0, 1), (2, 3), (4, 5))
    start_std = np.full(6, START_STD)

    def derivative(self, state: Any, action: Any, xp: Any) -> tuple[Any, ...]:
        """Time derivative of the state; see `SwingUp.derivative`."""
        _, x_dot, theta1, rate1, theta2, rate2 = state
        sin1, cos1, sin2, cos2 = xp.sin(theta1), xp.cos(theta1), xp.sin(theta2), xp.cos(theta2)
        sine, cosine = sin1 * cos2 - cos1 * sin2, cos1 * cos2 + sin1 * sin2  # of theta1 - theta2
        spin1, spin2 = rate1 * rate1, rate2 * rate2
        force = action[0] - self.friction * x_dot + MOMENT_1 * sin1 * spin1 + MOMENT_2 * sin2 * spin2
        torque1 = -COUPLING * sine * spin2 - MOMENT_1 * GRAVITY * sin1
        torque2 = COUPLING * sine * spin1 - MOMENT_2 * GRAVITY * sin2
        accelerations = _solve(MOMENT_1 * cos1, MOMENT_2 * cos2, COUPLING * cosine, force, torque1, torque2)
        return x_dot, accelerations[0], rate1, accelerations[1], rate2, accelerations[2]

    def energy(self, state: Any, xp: Any) -> Any:
        """Mechanical energy in J; see `SwingUp.energy`."""
        x_dot, theta1, rate1, theta2, rate2 = (state[..., i] for i in range(1, 6))
        diagonal = TOTAL_MASS * x_dot**2 + INERTIA_1 * rate1**2 + INERTIA_2 * rate2**2
        mixed = x_dot * (MOMENT_1 * xp.cos(theta1) * rate1 + MOMENT_2 * xp.cos(theta2) * rate2)
        mixed = mixed + COUPLING * xp.cos(theta1 - theta2) * rate1 * rate2
        return diagonal / 2 + mixed - GRAVITY * (MOMENT_1 * xp.cos(theta1) + MOMENT_2 * xp.cos(theta2))

    @staticmethod
    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        """exp(-d^2 / (2 0.5^2)), d the tip's distance after the step; see `SwingUp.reward`."""
        return xp.exp(-squared_tip_distance(next_state, xp) / (2 * REWARD_WIDTH**2))

    @staticmethod
    def success(states: Any, xp: Any) -> Any:
        """Distance below 0.2 (l1 + l2) during the last second; see `SwingUp.success`."""
        return (squared_tip_distance(last_second(states, DT), xp) < SUCCESS_DISTANCE**2).all(-1)

    def draw(self, state: np.ndarray, action: np.ndarray) -> Canvas:
        """Draw the track, the cart, the links, the goal and the force; see `SwingUp.draw`."""
        canvas = track(centre=float(state[0]), half_width=2.1)
        draw_goal(canvas, (0.0, LENGTH))
        pivot = (float(state[0]), 0.0)
        draw_cart(canvas, pivot)
        links = [(LINK_LENGTHS[0], float(state[2])), (LINK_LENGTHS[1], float(state[4]))]
        draw_links(canvas, pivot, links)
        draw_force(canvas, pivot, float(action[0]) / FORCE_LIMIT)
        return canvas


def _solve(b: Any, c: Any, e: Any, force: Any, torque1: Any, torque2: Any) -> tuple[Any, Any, Any]:
    """Solve M q_ddot = (force, torque1, torque2) by the adjugate; b, c, e lie off M's diagonal."""
    a, d, f = TOTAL_MASS, INERTIA_1, INERTIA_2
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d  # the adjugate's first row
    determinant = a * first + b * second + c * third
    fourth, fifth, sixth = a * f - c * c, b * c - a * e, a * d - b * b
    return (
        (first * force + second * torque1 + third * torque2) / determinant,
        (second * force + fourth * torque1 + fifth * torque2) / determinant,
        (third * force + fifth * torque1 + sixth * torque2) / determinant,
    )


class DoubleCartPoleSwingUpEnv(DoubleCartPoleSwingUp, SwingUpEnv):
    """``dynapilco/DoubleCartPoleSwingUp-v0``."""


class DoubleCartPoleSwingUpVectorEnv(DoubleCartPoleSwingUp, SwingUpVectorEnv):
    """``dynapilco/DoubleCartPoleSwingUp-v0`` as a vector environment."""
