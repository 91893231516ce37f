"""Settings of agents that are trained on imagined transitions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.imagination.cloud import FOLLOW

ALGORITHMS = {
    "sac": "soft actor-critic of stable-baselines3, on imagined transitions (MBPO: Janner et al. 2019)",
    "td3": "twin delayed DDPG of stable-baselines3, likewise",
    "ddpg": "deep deterministic policy gradient of stable-baselines3, likewise",
    "dqn": "deep Q-network of stable-baselines3, likewise (Discrete actions only)",
    "ppo": "proximal policy optimisation of stable-baselines3, on imagined episodes",
    "a2c": "advantage actor-critic of stable-baselines3, on imagined episodes",
}
OFF_POLICY = ("sac", "td3", "ddpg", "dqn")


@dataclass(frozen=True)
class ImaginationConfig:
    """Training of a stable-baselines3 agent inside the model, in every trial."""

    num_envs: int = 100
    """Imagined environments that are stepped together."""
    length: int = 5
    """Off-policy: steps of an imagined rollout, which branches off a visited state."""
    final_length: int | None = None
    """Off-policy: the length that it grows to, linearly; none: it does not."""
    grow_from: int = 0
    """Environment steps at which the length begins to grow."""
    grow_until: int = 0
    """Environment steps at which the length has grown."""
    real_share: float = 0.1
    """Off-policy: share of real transitions in a batch."""
    updates_per_step: float = 5.0
    """Off-policy: gradient steps of a trial for each real step of the last one."""
    least_updates: int = 500
    """Off-policy: gradient steps of a trial at least, for trials that end early."""
    updates_at_once: int = 10
    """Off-policy: gradient steps after each imagined step of all environments."""
    prefill: int = 50
    """Off-policy: imagined steps of all environments before a trial's first gradient step."""
    rounds: int = 20
    """On-policy: whole imagined episodes of every environment, in a trial."""
    follow: str = "step"
    """'step' (another function of the model at every step, as in MBPO) or 'draw' (an environment keeps its own)."""
    draws: int = 0
    """Functions; 0 takes as many as the inference method suits."""
    explore: bool = True
    """Whether actions of real trials are sampled (sac, ppo, a2c, dqn) or noisy (td3, ddpg)."""
    noise: float = 0.1
    """td3 and ddpg: standard deviation of noise on actions, in half widths of the action box."""

    def __post_init__(self) -> None:
        for name in ("num_envs", "length", "least_updates", "updates_at_once", "prefill", "rounds"):
            if getattr(self, name) < 1:
                raise UserError(f"imagination {name}={getattr(self, name)!r}: expected at least 1")
        if self.final_length is not None and self.final_length < 1:
            raise UserError(f"imagination final_length={self.final_length!r}: expected at least 1")
        for name in ("updates_per_step", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"imagination {name}={getattr(self, name)!r}: expected a finite number of 0 or more")
        if not 0 <= self.real_share <= 1:
            raise UserError(f"imagination real_share={self.real_share!r}: expected a share in [0, 1]")
        if not 0 <= self.grow_from <= self.grow_until:
            raise UserError(
                f"imagination grow_from={self.grow_from!r}, grow_until={self.grow_until!r}: expected steps in order"
            )
        if self.draws < 0:
            raise UserError(f"imagination draws={self.draws!r}: expected 0 (what suits the method) or more")
        if self.follow not in FOLLOW:
            raise unknown_name("imagination follow", self.follow, FOLLOW)

    def length_at(self, env_steps: int) -> int:
        """Steps of an imagined rollout after so many real steps (MBPO's schedule, in environment steps)."""
        if self.final_length is None:
            return self.length
        span = max(1, self.grow_until - self.grow_from)
        share = min(1.0, max(0.0, (env_steps - self.grow_from) / span))
        return round(self.length + share * (self.final_length - self.length))

    def updates(self, last_trial: int) -> int:
        """Gradient steps of a trial, after one of so many real steps."""
        return max(self.least_updates, round(self.updates_per_step * last_trial))
