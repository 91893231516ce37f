"""What a search imagines with, and what imagined trajectories are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.policies.base import Policy
from dynapilco.rollout import Damping, RolloutNoise, Simulator, StartSampler, TerminalValue, sample_noise, step_rewards
from dynapilco.tasks.task import Task


@dataclass(frozen=True)
class Imagination:
    """What a search imagines with: the task, a source of draws, and how many particles go how far from where.

    Attributes
    ----------
    task : Task
    sample_draw : callable
        ``sample_draw(generator)`` -> DynamicsDraw.
    particles : int
        Particles for each function.
    moment_matching : bool
    engine : str
        Of the rollouts: ``"auto"``, ``"fused"`` or ``"torch"``.
    steps : int, optional
        Of a rollout; a whole trial by default.
    starts : callable, optional
        ``starts(shape, generator)`` -> start states (*shape, D); those of real episodes by default.
    discount : float
        gamma of what is searched for.
    value : TerminalValue, optional
        What is searched for holds this value of the last states, too.
    """

    task: Task
    sample_draw: Callable[[torch.Generator], DynamicsDraw]
    particles: int
    moment_matching: bool
    engine: str = "auto"
    steps: int | None = None
    starts: StartSampler | None = None
    discount: float = 1.0
    value: TerminalValue | None = None

    @property
    def horizon(self) -> int:
        """Steps of a rollout."""
        return self.steps or self.task.horizon

    def simulator(self, draw: DynamicsDraw, policy: Policy, damping: Damping | None = None) -> Simulator:
        """A simulator of one draw."""
        return Simulator(draw, policy, self.particles, self.engine, damping)

    def noise(
        self, draw: DynamicsDraw, candidates: int, generator: torch.Generator, action_noise: bool = False
    ) -> RolloutNoise:
        """Start states and random numbers of one rollout, the same for every candidate."""
        return sample_noise(
            self.task,
            draw,
            self.horizon,
            candidates,
            self.particles,
            generator,
            moment_matching=self.moment_matching,
            action_noise=action_noise,
            starts=self.starts,
        )


@torch.no_grad()
def predicted_returns(
    policy: Policy,
    params: Tensor,
    imagination: Imagination,
    generator: torch.Generator,
    repeats: int,
    worth: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Mean return of candidates (R, n) over an imagined rollout, by ``repeats`` draws; (R,).

    ``worth`` takes rewards (T, R, S, P) to another worth of a step, (R,), as :meth:`SearchConfig.worth` does.
    """
    im, worth = imagination, worth or (lambda rewards: rewards.mean((0, 2, 3)))
    total = torch.zeros(params.shape[0], device=params.device)
    for _ in range(repeats):
        draw = im.sample_draw(generator)
        trajectories = im.simulator(draw, policy)(params, im.noise(draw, len(params), generator), im.horizon)
        total += im.horizon * worth(step_rewards(im.task, trajectories, discount=im.discount, value=im.value))
    return total / repeats


def only_finite(returns: Tensor) -> Tensor:
    """Returns with everything that is not finite at the end of any ranking, +infinity too."""
    return torch.where(torch.isfinite(returns), returns, -torch.inf)
