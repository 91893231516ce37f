"""Settings of imagined rollouts."""

from __future__ import annotations

from dataclasses import dataclass

from dynapilco.core.errors import UserError, unknown_name

PROPAGATIONS = {
    "tsinf": "each particle keeps its own sampled function for the whole rollout",
    "moment_matching": "after each step the particles are redrawn from a Gaussian of their mean and full covariance",
}


@dataclass(frozen=True)
class RolloutConfig:
    """How many particles, and how they travel."""

    propagation: str = "tsinf"
    """'tsinf' or 'moment_matching'."""
    total_particles: int = 160
    """Particles in all, about: rounded to the same number for each function."""
    draws: int = 0
    """Functions sampled from the posterior; 0 takes as many as the method suits (ensemble: its members, dropout: one
    for each particle)."""
    most_weight_sets: int = 20
    """With draws = 0: no more functions than this where each is a whole set of weights, for they cost time."""

    def __post_init__(self) -> None:
        if self.propagation not in PROPAGATIONS:
            raise unknown_name("propagation", self.propagation, PROPAGATIONS)
        if self.total_particles < 1:
            raise UserError(f"total_particles={self.total_particles!r}: expected at least 1")
        if self.most_weight_sets < 1:
            raise UserError(f"most_weight_sets={self.most_weight_sets!r}: expected at least 1")
        if self.draws < 0:
            raise UserError(f"draws={self.draws!r}: expected 0 (automatic) or more")
