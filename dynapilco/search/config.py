"""Settings of policy search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.checks import Checks
from dynapilco.rollout.risk import OBJECTIVES, risk_value


@dataclass(frozen=True)
class SearchConfig:
    """Pathwise policy search: several starts, successive halving, Adam with clipped gradients."""

    steps: int = 280
    """Gradient steps of the candidates that go all the way."""
    screening_steps: int = 90
    """Gradient steps of every candidate before the weaker ones are dropped (at most ``steps``)."""
    fresh_starts: int = 6
    """Newly initialised candidates, beside the warm ones (the delivered and the newest policy)."""
    survivors: int = 2
    """Candidates that go on after screening."""
    learning_rate: float = 0.01
    """Adam's rate at the start; a cosine takes it to (nearly) zero."""
    clip_norm: float = 0.3
    """Largest norm of a candidate's gradient."""
    credit_seconds: tuple[float, ...] = (0.5, 2.0)
    """Time constants with which gradients fade on their way back through time, at the start: fresh candidates take
    them in turn, so that tasks that need near-sighted gradients and tasks that need far-sighted ones both find a
    search that suits them; the best of each goes on after screening, as far as there are survivors. 0 lets gradients
    pass unchanged, which is chaotic in unstable systems."""
    final_credit_seconds: float = 0.5
    """Time constant of all of them from half of the steps on, and of warm candidates always; in between it moves
    geometrically. Far-sighted gradients find the way, near-sighted ones walk it well. 0 leaves each as it began."""
    adjoint_limit: float = 30.0
    """Largest sensitivity of a trial's return (rewards of order 1) to a particle's state, in units of the state's
    spread, that is passed back through a step; 0 sets none."""
    action_noise: float = 0.5
    """Standard deviation of noise added before the squashing, at the start; falls linearly to 0 at 80 % of the
    steps. It smooths the objective."""
    refresh_every: int = 1
    """Gradient steps between fresh random numbers; 1 is never the same twice, larger values are common random
    numbers."""
    redraw_every: int = 20
    """Gradient steps between fresh draws of the dynamics (for an ensemble whose members are all in use, each draw is
    the same)."""
    optimism: float = 0.0
    """beta of an objective that favours the functions under which the policy does well, (1 / beta) log mean_s
    exp(beta J_s), J_s the mean reward of a step under function s; 0 is the mean over functions. About 10 for rewards
    between 0 and 1."""
    objective: str = "mean"
    """'mean' (over particles), 'cvar' (of the worst), 'mean_minus_std' (cautious) or 'optimistic' (mean plus the spread
    between functions)."""
    risk_share: float = 0.2
    """cvar: share of the worst particles."""
    risk_weight: float = 1.0
    """mean_minus_std and optimistic: how many standard deviations."""
    initial_reward_power: float = 1.0
    """Power of the reward at the first step, for rewards in (0, 1]: below 1 widens a narrow reward."""
    graphs: bool = True
    """On a CUDA device a step is recorded once as a CUDA graph and replayed; false starts its kernels one by one."""
    final_reward_power: float = 1.0
    """Power of the reward from half of the steps on; in between it moves geometrically."""

    def __post_init__(self) -> None:
        check = Checks(self, "search")
        check.at_least(1, "steps", "screening_steps", "survivors", "refresh_every", "redraw_every")
        check.at_least(0, "fresh_starts")
        check.above_zero("learning_rate", "clip_norm", "initial_reward_power", "final_reward_power")
        check.number(0, "action_noise", "adjoint_limit", "optimism", "final_credit_seconds", "risk_weight")
        if not self.credit_seconds or not all(0 <= s < math.inf for s in self.credit_seconds):
            raise check.refuse("credit_seconds", "one or more finite numbers of 0 or more")
        check.share("risk_share")
        check.word("objective", OBJECTIVES)
        if self.objective != "mean" and self.optimism:
            raise check.refuse("optimism", f"0 beside objective={self.objective!r}")

    def worth(self, rewards: Tensor) -> Tensor:
        """What a step is worth, (R,), from rewards (T, R, S, P) of S functions with P particles each."""
        if self.objective == "mean":
            return optimistic_mean(rewards.mean((0, 3)), self.optimism)
        return risk_value(rewards.mean(0), self.objective, self.risk_share, self.risk_weight)


def optimistic_mean(values: Tensor, beta: float) -> Tensor:
    """(1 / beta) log mean_s exp(beta v_s) of values (R, S), (R,); the mean for beta = 0."""
    if beta == 0:
        return values.mean(1)
    return (torch.logsumexp(beta * values, 1) - math.log(values.shape[1])) / beta
