"""Rewards and ends of Gymnasium's classic control tasks, from their documentation."""

from __future__ import annotations

from typing import Any

import gymnasium

from dynapilco.tasks.known import Known, register_known


@register_known("Pendulum-v1")
def pendulum(env: gymnasium.Env) -> Known:
    """Observation [cos, sin, velocity]; the cost is that of the state before the step."""

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        angle = xp.arctan2(state[..., 1], state[..., 0])
        return -(angle**2 + 0.1 * state[..., 2] ** 2 + 0.001 * action[..., 0] ** 2)

    return Known(
        reward,
        cos_sin_pairs=((0, 1, 2),),
        state_names=("cos(theta)", "sin(theta)", "theta_dot"),
        state_units=("", "", "rad/s"),
        action_names=("torque",),
        action_units=("N m",),
    )


@register_known("CartPole-v1", "CartPole-v0")
def cart_pole(env: gymnasium.Env) -> Known:
    """1 for every step, until the cart leaves the track or the pole leans too far."""
    base: Any = env.unwrapped
    track, lean, sutton = base.x_threshold, base.theta_threshold_radians, base._sutton_barto_reward

    def margin(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        return 1 - xp.maximum(abs(next_state[..., 0]) / track, abs(next_state[..., 2]) / lean)

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        one = xp.ones_like(next_state[..., 0])
        return xp.where(margin(state, action, next_state, xp) < 0, -one, 0 * one) if sutton else one

    return Known(
        reward,
        margin,
        dt=base.tau,
        position_velocity_pairs=((0, 1), (2, 3)),
        state_names=("x", "x_dot", "theta", "theta_dot"),
        state_units=("m", "m/s", "rad", "rad/s"),
        action_names=("left", "right"),
    )


@register_known("Acrobot-v1")
def acrobot(env: gymnasium.Env) -> Known:
    """-1 for every step until the tip is a link's length above the pivot."""

    def margin(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        cos1, sin1, cos2, sin2 = (next_state[..., i] for i in range(4))
        return (1 + cos1 + cos1 * cos2 - sin1 * sin2) / 2

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        one = xp.ones_like(next_state[..., 0])
        return xp.where(margin(state, action, next_state, xp) < 0, 0 * one, -one)

    return Known(
        reward,
        margin,
        dt=0.2,
        cos_sin_pairs=((0, 1, 4), (2, 3, 5)),
        state_names=("cos(theta1)", "sin(theta1)", "cos(theta2)", "sin(theta2)", "theta1_dot", "theta2_dot"),
        state_units=("", "", "", "", "rad/s", "rad/s"),
        action_names=("-1", "0", "+1"),
        action_units=("N m",) * 3,
    )


@register_known("MountainCarContinuous-v0")
def mountain_car(env: gymnasium.Env) -> Known:
    """100 for arriving at the flag, minus a tenth of the squared force."""
    base: Any = env.unwrapped
    goal, least = base.goal_position, base.goal_velocity
    way, fastest = goal - base.min_position, base.max_speed

    def margin(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        return xp.maximum((goal - next_state[..., 0]) / way, (least - next_state[..., 1]) / fastest)

    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        arrived = margin(state, action, next_state, xp) <= 0
        one = xp.ones_like(next_state[..., 0])
        return xp.where(arrived, 100 * one, 0 * one) - 0.1 * action[..., 0] ** 2

    return Known(reward, margin, state_names=("x", "x_dot"), action_names=("force",))
