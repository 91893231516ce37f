"""Settings of the search without gradients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dynapilco.core.checks import Checks
from dynapilco.rollout.risk import OBJECTIVES, risk_value


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
    """Generations after which a search ends, without a centre that is better than the best one under the same draws, by
    two standard errors."""
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
        check = Checks(self, "evolution")
        check.at_least(1, "generations", "fresh_starts", "patience", "draws", "particles", "first_horizon")
        check.at_least(4, "population")
        if self.population % 2:
            raise check.refuse("population", "an even number: policies come in pairs")
        check.above_zero("spread", "learning_rate")
        check.share("risk_share")
        check.number(0, "risk_weight")
        check.word("objective", OBJECTIVES)

    def worth(self, rewards: Tensor) -> Tensor:
        """What a step is worth by the objective, (R,), from rewards (T, R, S, P) of S functions with P particles."""
        return risk_value(rewards.mean(0), self.objective, self.risk_share, self.risk_weight)
