"""Settings of the search without gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.rollout.risk import OBJECTIVES


@dataclass(frozen=True)
class EvolutionConfig:
    """Evolution strategies on the parameters of the policy, for rewards that have no gradient."""

    generations: int = 60
    """Most updates of a search."""
    population: int = 64
    """Policies of a generation: pairs, mirrored around their centre."""
    fresh_starts: int = 64
    """Newly initialised policies of which, with the warm ones, the best is the first centre."""
    patience: int = 15
    """Generations without a better centre after which a search ends."""
    spread: float = 0.3
    """Standard deviation around the centre, in units of how far new policies lie apart."""
    learning_rate: float = 0.1
    """Length of the first step, in units of the typical distance of the population from its centre; falls linearly."""
    draws: int = 20
    """Functions that a generation is tried under, fresh ones each time."""
    particles: int = 2
    """Particles of each function."""
    first_horizon: int = 125
    """Steps of the first rollouts where episodes may end early; doubled, up to a whole trial, as long as the best
    policy still goes on at their end. Where nothing ends an episode, rollouts are whole trials from the start."""
    objective: str = "mean"
    """'mean', 'cvar', 'mean_minus_std' or 'optimistic'."""
    risk_share: float = 0.2
    """cvar: share of the worst particles."""
    risk_weight: float = 1.0
    """mean_minus_std and optimistic: how many standard deviations."""

    def __post_init__(self) -> None:
        for name, least in (
            ("generations", 1),
            ("population", 4),
            ("fresh_starts", 1),
            ("patience", 1),
            ("draws", 1),
            ("particles", 1),
            ("first_horizon", 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"evolution {name}={value!r}: expected a whole number of at least {least}")
        for name in ("spread", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"evolution {name}={getattr(self, name)!r}: expected a finite number above 0")
        if not 0 < self.risk_share <= 1:
            raise UserError(f"evolution risk_share={self.risk_share!r}: expected a share in (0, 1]")
        if not 0 <= self.risk_weight < math.inf:
            raise UserError(f"evolution risk_weight={self.risk_weight!r}: expected a finite number of 0 or more")
        if self.objective not in OBJECTIVES:
            raise unknown_name("evolution objective", self.objective, OBJECTIVES)
