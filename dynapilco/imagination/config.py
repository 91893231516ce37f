"""Settings of agents that are trained on imagined transitions."""

from __future__ import annotations

from dataclasses import dataclass

from dynapilco.core.checks import Checks
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
        check = Checks(self, "imagination")
        check.at_least(1, "num_envs", "length", "least_updates", "updates_at_once", "prefill", "rounds")
        check.number(0, "updates_per_step", "noise")
        check.share("real_share", zero=True)
        self._check_growth(check)
        check.at_least(0, "draws", words="0 (what suits the method) or more")
        check.word("follow", FOLLOW)

    def _check_growth(self, check: Checks) -> None:
        if self.final_length is None:
            for name in ("grow_from", "grow_until"):
                if getattr(self, name):
                    raise check.refuse(name, "a final_length beside it, for without one the length does not grow")
            return
        check.at_least(1, "final_length")
        check.at_least(0, "grow_from")
        check.at_least(
            max(1, self.grow_from),
            "grow_until",
            words="the environment steps, 1 or more and no fewer than "
            f"grow_from={self.grow_from}, at which the length is final_length={self.final_length}",
        )

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
