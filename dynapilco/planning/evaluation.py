"""What plans are worth: all of them through all functions and particles in one pass."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.planning.config import PlanningConfig
from dynapilco.policies import make_policy
from dynapilco.rollout import Simulator, TerminalValue, Trajectories, sample_noise, step_rewards
from dynapilco.rollout.risk import risk_value
from dynapilco.tasks.task import Task

EDGE = 1 - 1e-6
"""Largest squashed action, in half widths: beyond it the inverse of tanh is infinite."""


@torch.no_grad()
def plan_returns(
    task: Task,
    draw: DynamicsDraw,
    state: Tensor,
    plans: Tensor,
    config: PlanningConfig,
    generator: torch.Generator,
    value: TerminalValue | None = None,
) -> Tensor:
    """Returns of plans under every function and particle.

    An end weighs in by its probability, which also says how near it is.

    Parameters
    ----------
    task : Task
    draw : DynamicsDraw
    state : Tensor
        Where all start, (D,).
    plans : Tensor
        Actions (K, H, M).
    config : PlanningConfig
    generator : torch.Generator
        Of the process noise, the same for every plan.
    value : TerminalValue, optional
        What the states at the end of a plan are worth.

    Returns
    -------
    Tensor
        (K, S, P).
    """
    if config.propagation == "tsinf":
        trajectories = _open_loop(task, draw, state, plans, config, generator)
    else:
        trajectories = _stepwise(draw, state, plans, config, generator)
    return step_rewards(task, trajectories, smooth=True, discount=config.discount, value=value).sum(0)


def _open_loop(
    task: Task, draw: DynamicsDraw, state: Tensor, plans: Tensor, config: PlanningConfig, generator: torch.Generator
) -> Trajectories:
    """By the simulator of policies, whose compiled kernel takes plans as the noise on the actions of a zero policy."""
    count, horizon, _ = plans.shape
    codec, device = task.codec, plans.device
    low, high = (torch.as_tensor(bound, device=device) for bound in (codec.low, codec.high))
    scale = torch.ones(task.geometry.states, device=device)
    policy = make_policy("linear", None, task.geometry, low, high, scale)
    raw = plans if codec.choices else ((plans - policy.centre) / policy.half).clamp(-EDGE, EDGE).atanh()

    def starts(shape: tuple[int, ...], _: torch.Generator) -> Tensor:
        return state.expand(*shape, -1)

    noise = sample_noise(task, draw, horizon, count, config.particles, generator, starts=starts)
    action = raw.transpose(0, 1)[:, :, None, None].expand(-1, -1, draw.size, config.particles, -1)
    params = torch.zeros_like(policy.init(1, generator)).expand(count, -1)
    simulator = Simulator(draw, policy, config.particles)
    return simulator(params, replace(noise, action=action), horizon, action_std=1.0)


def _stepwise(
    draw: DynamicsDraw, state: Tensor, plans: Tensor, config: PlanningConfig, generator: torch.Generator
) -> Trajectories:
    """Step by step, where particles change functions on the way."""
    count, horizon, _ = plans.shape
    x = state.expand(count, draw.size, config.particles, -1)
    states, actions = [x], []
    for t in range(horizon):
        u = plans[:, t, None, None].expand(*x.shape[:-1], -1)
        x = _advance(draw, x, u, config, generator)
        states.append(x)
        actions.append(u)
    return Trajectories(torch.stack(states), torch.stack(actions))


def _advance(draw: DynamicsDraw, x: Tensor, u: Tensor, config: PlanningConfig, generator: torch.Generator) -> Tensor:
    noise = None
    if draw.process_std is not None:
        size = (1, draw.size, config.particles, draw.stepping.outputs)
        noise = torch.randn(*size, generator=generator, device=x.device) * draw.process_std.unsqueeze(1)
    if config.propagation == "ts1":
        x = _dealt_anew(x, generator)
    after = draw.step(x, u, noise)
    if config.propagation == "expectation":
        after = after.mean((1, 2), keepdim=True).expand_as(after)
    return after


def _dealt_anew(x: Tensor, generator: torch.Generator) -> Tensor:
    """Particles (K, S, P, D) given to other functions, in the same way for every plan."""
    flat = x.flatten(1, 2)
    order = torch.randperm(flat.shape[1], generator=generator, device=x.device)
    return flat[:, order].reshape(x.shape)


def scores(returns: Tensor, config: PlanningConfig) -> Tensor:
    """One number a plan from returns (K, S, P); plans with numbers that are not finite come last, (K,)."""
    value = risk_value(returns, config.objective, config.risk_share, config.risk_weight)
    return torch.where(torch.isfinite(returns.flatten(1)).all(1), value, -torch.inf)
