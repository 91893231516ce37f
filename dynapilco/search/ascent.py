"""One gradient step of all candidates, in tensors alone: nothing here asks the device for a number.

So the same code runs at once on a CPU, and as a recorded CUDA graph (:mod:`dynapilco.search.replay`) on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.rollout import RolloutNoise, Simulator, step_rewards
from dynapilco.search.candidates import Candidates
from dynapilco.search.config import SearchConfig
from dynapilco.search.imagination import Imagination

LOST_GRADIENT = 1e-3
"""A candidate is lost at a step where its gradient is below this share of the largest (clipped) one and its return
nearer to the worst than to the best: where a narrow reward underflows, no gradient leads back."""

Number = float | Tensor


@dataclass(frozen=True)
class Schedule:
    """What changes from step to step beside random numbers: floats, or tensors () that hold them in a graph.

    Attributes
    ----------
    action_std : float or Tensor
        Scale of the noise on raw actions.
    power : float or Tensor
        Of the reward.
    rate : float or Tensor
        Of Adam.
    early : float or Tensor
        1 while lost candidates are counted, 0 later.
    """

    action_std: Number
    power: Number
    rate: Number
    early: Number


@dataclass(frozen=True)
class Climb:
    """What one rollout says of the candidates.

    Attributes
    ----------
    descent : Tensor
        Minus the gradient of J, (R, n), zero for candidates whose numbers went bad.
    norm : Tensor
        Its norm, (R, 1).
    objective : Tensor
        J, (R,).
    reward : Tensor
        Mean reward of a step, (R,).
    good : Tensor
        Candidates whose objective and gradient are finite, (R,) bool.
    """

    descent: Tensor
    norm: Tensor
    objective: Tensor
    reward: Tensor
    good: Tensor


def climb(
    simulator: Simulator,
    noise: RolloutNoise,
    candidates: Candidates,
    imagination: Imagination,
    config: SearchConfig,
    schedule: Schedule,
) -> Climb:
    """Roll out all candidates and differentiate what that is worth.

    Raises
    ------
    UserError
        For rewards that no gradient leads to the policy from.
    """
    trajectories = simulator(candidates.params, noise, imagination.horizon, schedule.action_std)
    im = imagination
    rewards = step_rewards(im.task, trajectories, smooth=True, discount=im.discount, value=im.value)
    plain = isinstance(schedule.power, float) and schedule.power == 1
    objective = config.worth(rewards if plain else rewards.clamp_min(1e-30) ** schedule.power)
    if not objective.requires_grad:
        raise UserError(
            "the reward is the same whatever the policy does, as far as gradients tell: a pathwise search needs a "
            "reward (or the margin of an end) that changes smoothly with states or actions"
        )
    (gradient,) = torch.autograd.grad(objective.sum(), candidates.params)
    good = torch.isfinite(gradient).all(1) & torch.isfinite(objective)
    descent = torch.where(good.unsqueeze(1), -gradient, torch.zeros_like(gradient))
    norm = descent.norm(dim=1, keepdim=True)
    return Climb(descent, norm, objective.detach(), rewards.detach().mean((0, 2, 3)), good)


def count(candidates: Candidates, found: Climb, clip_norm: float, early: Number) -> None:
    """Count the steps in a row at which candidates were bad, and (while it is early) lost."""
    bad = ~found.good
    candidates.bad_steps += bad.sum()
    candidates.bad_in_a_row.copy_(torch.where(bad, candidates.bad_in_a_row + 1, 0))
    norms, returns = found.norm.squeeze(1), found.objective
    finite = torch.isfinite(returns)
    worst = torch.where(finite, returns, torch.inf).amin()
    best = torch.where(finite, returns, -torch.inf).amax()
    lost = (norms < LOST_GRADIENT * norms.clamp_max(clip_norm).max()) & (returns < (worst + best) / 2)
    counts = candidates.lost_in_a_row
    counted = torch.where(lost, counts + 1, 0)
    if isinstance(early, Tensor):
        counts.copy_(torch.where((early > 0) & finite.any(), counted, counts))
    elif early:
        counts.copy_(torch.where(finite.any(), counted, counts))


def update(candidates: Candidates, found: Climb, clip_norm: float, rate: Number) -> None:
    """A clipped Adam step of the good candidates."""
    candidates.update(found.descent * (clip_norm / found.norm.clamp_min(clip_norm)), rate, found.good)
