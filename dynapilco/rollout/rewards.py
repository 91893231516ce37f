"""What imagined trajectories earn."""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.rollout.rollout import Trajectories
from dynapilco.rollout.terminal import TerminalValue
from dynapilco.tasks.task import Task


def step_rewards(
    task: Task,
    trajectories: Trajectories,
    smooth: bool = False,
    discount: float = 1.0,
    value: TerminalValue | None = None,
) -> Tensor:
    """Rewards (T, R, S, P) of imagined transitions; nothing is earned after an end.

    Parameters
    ----------
    task : Task
    trajectories : Trajectories
    smooth : bool
        Weight rewards by the probability prod(1 - p_t) of still going on, which has a gradient, instead of ending.
    discount : float
        gamma: the reward of step t counts gamma^t.
    value : TerminalValue, optional
        What the last states are worth beyond the rollout, added to the rewards of the last step.
    """
    before, actions, after = trajectories.states[:-1], trajectories.actions, trajectories.states[1:]
    rewards = task.reward(before, actions, after, torch)
    if discount != 1:
        steps = torch.arange(len(rewards), device=rewards.device, dtype=rewards.dtype)
        rewards = rewards * (discount**steps).reshape(-1, *[1] * (rewards.dim() - 1))
    beyond = None if value is None else discount ** len(rewards) * value(after[-1])
    if not task.ends:
        return rewards if beyond is None else _with_last(rewards, beyond)
    if smooth:
        goes_on = 1 - task.end_probability(before, actions, after)
    else:
        goes_on = (~task.ended(before, actions, after, torch)).to(rewards.dtype)
    alive = goes_on[:-1].cumprod(0)
    weight = torch.cat([torch.ones_like(rewards[:1]), alive])
    # what a particle does after its end must not matter, also where its numbers overflow: 0 * inf is not 0
    earned = torch.where(weight > 0, rewards, torch.zeros_like(rewards)) * weight
    return earned if beyond is None else _with_last(earned, beyond * weight[-1] * goes_on[-1])


def _with_last(rewards: Tensor, beyond: Tensor) -> Tensor:
    return torch.cat([rewards[:-1], rewards[-1:] + beyond])
