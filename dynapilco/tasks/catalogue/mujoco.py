"""Rewards and ends of Gymnasium's MuJoCo tasks, from their documentation.

Locomotion pays the displacement of the root in a step, which the default observation does not hold: a gauge adds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium

from dynapilco.tasks.known import Known, register_known

ROOT = {"root_dx": lambda base: base.data.qpos[0]}
"""Metres that the root moved forward in the last step."""


def squares(values: Any) -> Any:
    """Sum of squares over the last axis."""
    return (values**2).sum(-1)


def distance(values: Any, xp: Any) -> Any:
    """Euclidean norm over the last axis; at 0 with the gradient 0."""
    return xp.sqrt(squares(values) + 1e-18)


def inside(values: Any, bounds: Sequence[float]) -> Any:
    """How far values lie between two bounds: 1 in the middle (of the finite ones), 0 at a bound."""
    low, high = bounds
    if math.isinf(high):
        return (values - low) / max(abs(low), 1e-6)
    return 1 - abs(values - (low + high) / 2) / ((high - low) / 2)


@register_known("InvertedPendulum-v5", "InvertedPendulum-v4")
def inverted_pendulum(env: gymnasium.Env) -> Known:
    """1 for every step with the pole within 0.2 rad."""

    def margin(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        return 1 - abs(next_state[..., 1]) / 0.2

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        one = xp.ones_like(next_state[..., 0])
        return xp.where(margin(state, action, next_state, xp) < 0, 0 * one, one)

    return Known(
        reward,
        margin,
        position_velocity_pairs=((0, 2), (1, 3)),
        state_names=("x", "theta", "x_dot", "theta_dot"),
        state_units=("m", "rad", "m/s", "rad/s"),
        action_names=("force",),
    )


@register_known("InvertedDoublePendulum-v5")
def inverted_double_pendulum(env: gymnasium.Env) -> Known:
    """A bonus for the tip above 1 m, minus penalties of its place and of joint velocities (clipped to 10 when seen)."""
    bonus, link = env.unwrapped._healthy_reward, 0.6  # pyright: ignore[reportAttributeAccessIssue]

    def tip(x: Any) -> tuple[Any, Any]:
        sin1, sin2, cos1, cos2 = (x[..., i] for i in range(1, 5))
        across = x[..., 0] + link * (sin1 + sin1 * cos2 + cos1 * sin2)
        return across, link * (cos1 + cos1 * cos2 - sin1 * sin2)

    def margin(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        return (tip(next_state)[1] - 1) / 0.2

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        across, height = tip(next_state)
        one = xp.ones_like(height)
        alive = xp.where(height <= 1, 0 * one, bonus * one)
        spin = 1e-3 * next_state[..., 6] ** 2 + 5e-3 * next_state[..., 7] ** 2
        return alive - 0.01 * across**2 - (height - 2) ** 2 - spin

    angles = ("theta1", "theta2")
    return Known(
        reward,
        margin,
        position_velocity_pairs=((0, 5),),
        cos_sin_pairs=((3, 1, 6), (4, 2, 7)),
        state_names=(
            "x", *(f"sin({angle})" for angle in angles), *(f"cos({angle})" for angle in angles),
            "x_dot", "theta1_dot", "theta2_dot", "constraint_force",
        ),
        state_units=("m", "", "", "", "", "m/s", "rad/s", "rad/s", "N"),
        action_names=("force",),
    )  # fmt: skip


@register_known("Reacher-v5")
def reacher(env: gymnasium.Env) -> Known:
    """Minus the distance of the fingertip to the target, minus the squared torques."""
    base: Any = env.unwrapped
    far, effort = base._reward_dist_weight, base._reward_control_weight

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        return -far * distance(next_state[..., 8:10], xp) - effort * squares(action)

    return Known(
        reward,
        cos_sin_pairs=((0, 2, 6), (1, 3, 7)),
        state_names=(
            "cos(theta1)", "cos(theta2)", "sin(theta1)", "sin(theta2)", "target_x", "target_y",
            "theta1_dot", "theta2_dot", "to_target_x", "to_target_y",
        ),
        state_units=("", "", "", "", "m", "m", "rad/s", "rad/s", "m", "m"),
        action_names=("torque1", "torque2"),
        action_units=("N m", "N m"),
    )  # fmt: skip


@register_known("Pusher-v5")
def pusher(env: gymnasium.Env) -> Known:
    """Minus the distances of arm to object and object to goal, minus the squared torques."""
    base: Any = env.unwrapped
    near, far, effort = base._reward_near_weight, base._reward_dist_weight, base._reward_control_weight

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        arm, thing, goal = (next_state[..., i : i + 3] for i in (14, 17, 20))
        return -near * distance(thing - arm, xp) - far * distance(thing - goal, xp) - effort * squares(action)

    return Known(reward)


@register_known("HalfCheetah-v5", "Swimmer-v5")
def runner(env: gymnasium.Env) -> Known:
    """Forward velocity of the root, minus the squared torques."""
    base: Any = env.unwrapped
    speed, effort, dt = base._forward_reward_weight, base._ctrl_cost_weight, base.dt

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        return speed * next_state[..., -1] / dt - effort * squares(action)

    return Known(reward, gauges=ROOT)


@register_known("Hopper-v5", "Walker2d-v5")
def walker(env: gymnasium.Env) -> Known:
    """Forward velocity and a bonus for being healthy, minus the squared torques; it ends when it is unhealthy."""
    base: Any = env.unwrapped
    speed, effort, dt, bonus = base._forward_reward_weight, base._ctrl_cost_weight, base.dt, base._healthy_reward
    first = 0 if base._exclude_current_positions_from_observation else 1
    reach = getattr(base, "_healthy_state_range", None)

    def healthy(x: Any, xp: Any) -> Any:
        height = inside(x[..., first], base._healthy_z_range)
        found = xp.minimum(height, inside(x[..., first + 1], base._healthy_angle_range))
        if reach is None:
            return found
        rest = inside(x[..., first + 1 : -1], reach)  # all but the height and the gauge
        return xp.minimum(found, rest.min(-1) if xp.__name__ == "numpy" else rest.amin(-1))

    def margin(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        return healthy(next_state, xp)

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        one = xp.ones_like(next_state[..., 0])
        alive = xp.where(healthy(next_state, xp) <= 0, 0 * one, bonus * one)
        return speed * next_state[..., -1] / dt + alive - effort * squares(action)

    return Known(reward, margin if base._terminate_when_unhealthy else None, gauges=ROOT)
