"""Settings of imagined rollouts."""

from __future__ import annotations

from dataclasses import dataclass

from dynapilco.core.checks import Checks

PROPAGATIONS = {
    "tsinf": "each particle keeps its own sampled function for the whole rollout",
    "moment_matching": "after each step the particles are redrawn from a Gaussian of their mean and full covariance",
}
STARTS = ("auto", "reset", "replay", "mix")
TERMINAL_VALUES = ("none", "learned")
LONGEST = 200
"""Steps of the longest rollout that is chosen automatically: model errors and chaotic gradients grow with it."""


@dataclass(frozen=True)
class RolloutConfig:
    """How many particles, and how they travel."""

    propagation: str = "tsinf"
    """'tsinf' or 'moment_matching'."""
    total_particles: int = 160
    """Particles in all, about: rounded to the same number for each function."""
    horizon: int = 0
    """Steps of an imagined rollout; 0 takes the whole trial, at most 200."""
    starts: str = "auto"
    """Where rollouts start: 'reset' (as real episodes do), 'replay' (at states that were visited), 'mix' (half and
    half), or 'auto' (reset where rollouts last a whole trial, else mix)."""
    draws: int = 0
    """Functions sampled from the posterior; 0 takes as many as the method suits (ensemble: its members, dropout: one
    for each particle)."""
    discount: float = 1.0
    """gamma of the searched objective: the reward of step t counts gamma^t. Returns that are reported are not
    discounted."""
    terminal_value: str = "none"
    """What lies beyond the end of rollouts that are shorter than a trial: 'none', or 'learned', a value function that
    is fitted to the newest policy before every search but the first (pathwise gradients)."""
    most_weight_sets: int = 20
    """With draws = 0: no more functions than this where each is a whole set of weights, for they cost time."""

    def __post_init__(self) -> None:
        check = Checks(self, "rollout")
        check.word("propagation", PROPAGATIONS, "propagation")
        check.word("starts", STARTS)
        check.at_least(0, "horizon", words="at least 1 step, or 0 for the whole trial")
        check.at_least(1, "total_particles", "most_weight_sets")
        check.share("discount")
        check.word("terminal_value", TERMINAL_VALUES)
        check.at_least(0, "draws", words="0 (automatic) or more")

    def steps(self, trial: int) -> int:
        """Steps of an imagined rollout, for trials of ``trial`` steps."""
        return min(trial, self.horizon or LONGEST)

    def kind_of_start(self, trial: int) -> str:
        """'reset', 'replay' or 'mix', for trials of ``trial`` steps."""
        if self.starts != "auto":
            return self.starts
        return "reset" if self.steps(trial) == trial else "mix"
