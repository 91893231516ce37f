"""Whether gradients of the reward can lead a policy search."""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.dynamics import Transitions
from dynapilco.tasks import Task
from dynapilco.tasks.flat import ENDED, REWARD

NOTICEABLE = 1e-3
"""A reward changes with the state where a spread of the state changes it by this share of its own size."""
NOTICEABLE_BESIDE_LIFE = 0.1
"""The same where episodes end early: there a reward that hardly varies pays for going on, which has no gradient."""
ENOUGH, ENOUGH_BESIDE_LIFE = 0.05, 0.5
"""Share of visited transitions at which the reward must change with the state for gradients to lead a search."""


def informative_share(task: Task, data: Transitions) -> float:
    """Share of transitions at which the reward changes with the state.

    A known reward is differentiated; of one that is learned, the data are looked at: how many payments differ from the
    median, beside what the actions explain (a quadratic cost of actions says nothing of where to go).

    Parameters
    ----------
    task : Task
    data : Transitions
        Visited so far, at least one.
    """
    rewards = data.rewards
    size = float(rewards.abs().mean() + rewards.std(correction=0))
    least = size * (NOTICEABLE_BESIDE_LIFE if pays_for_life(task, data) else NOTICEABLE)
    if size == 0:
        return 0.0
    if REWARD in task.learned:
        rest = _beside_actions(rewards, data.actions)
        return float(((rest - rest.median()).abs() > least).float().mean())
    before, after = data.states.clone().requires_grad_(True), data.next_states.clone().requires_grad_(True)
    reward = task.reward(before, data.actions, after, torch)
    if not reward.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(reward.sum(), (before, after), allow_unused=True)
    spread = data.states.std(0, correction=0)
    change = sum((g.nan_to_num().abs() @ spread for g in gradients if g is not None), torch.zeros(len(rewards)))
    return float((change > least).float().mean())


def _beside_actions(rewards: Tensor, actions: Tensor) -> Tensor:
    """Rewards (N,) less their least-squares fit by actions (N, M) and squared actions."""
    terms = torch.cat([torch.ones_like(actions[:, :1]), actions, actions.square()], 1).double()
    if len(rewards) <= terms.shape[1]:
        return rewards
    fit = torch.linalg.lstsq(terms, rewards.double().unsqueeze(1), driver="gelsd").solution
    return (rewards.double() - (terms @ fit).squeeze(1)).to(rewards.dtype)


def pays_for_life(task: Task, data: Transitions) -> bool:
    """Whether episodes end early, as far as is known."""
    if ENDED not in task.learned:
        return task.ends
    return bool(task.was_end(data.states, data.actions, data.next_states).any())


def choose(task: Task, data: Transitions) -> tuple[str, str]:
    """A controller's name, and why, as a sentence."""
    share = informative_share(task, data)
    told = f"the reward changes noticeably with the state on {share:.0%} of {len(data)} visited transitions"
    if share >= (ENOUGH_BESIDE_LIFE if pays_for_life(task, data) else ENOUGH):
        return "pathwise", f"controller: pathwise gradients, as {told}"
    return "evolution", f"controller: evolution strategies in the model, as {told}, too few for gradients to lead"
