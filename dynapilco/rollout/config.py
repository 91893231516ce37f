"""Settings of imagined rollouts."""

from __future__ import annotations

from dataclasses import dataclass

from dynapilco.core.errors import UserError, unknown_name

PROPAGATIONS = {
    "tsinf": "each particle keeps its own sampled function for the whole rollout",
    "moment_matching": "after each step the particles are redrawn from a Gaussian of their mean and full covariance",
}
STARTS = ("auto", "reset", "replay", "mix")
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
    most_weight_sets: int = 20
    """With draws = 0: no more functions than this where each is a whole set of weights, for they cost time."""

    def __post_init__(self) -> None:
        if self.propagation not in PROPAGATIONS:
            raise unknown_name("propagation", self.propagation, PROPAGATIONS)
        if self.starts not in STARTS:
            raise unknown_name("rollout starts", self.starts, STARTS)
        if self.horizon < 0:
            raise UserError(f"horizon={self.horizon!r}: expected at least 1 step, or 0 for the whole trial")
        if self.total_particles < 1:
            raise UserError(f"total_particles={self.total_particles!r}: expected at least 1")
        if self.most_weight_sets < 1:
            raise UserError(f"most_weight_sets={self.most_weight_sets!r}: expected at least 1")
        if not 0 < self.discount <= 1:
            raise UserError(f"discount={self.discount!r}: expected a number in (0, 1]")
        if self.draws < 0:
            raise UserError(f"draws={self.draws!r}: expected 0 (automatic) or more")

    def steps(self, trial: int) -> int:
        """Steps of an imagined rollout, for trials of ``trial`` steps."""
        return min(trial, self.horizon or LONGEST)

    def kind_of_start(self, trial: int) -> str:
        """'reset', 'replay' or 'mix', for trials of ``trial`` steps."""
        if self.starts != "auto":
            return self.starts
        return "reset" if self.steps(trial) == trial else "mix"
