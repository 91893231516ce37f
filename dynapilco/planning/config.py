"""Settings of planning."""

from __future__ import annotations

from dataclasses import dataclass

from dynapilco.core.checks import Checks
from dynapilco.rollout.config import TERMINAL_VALUES
from dynapilco.rollout.risk import OBJECTIVES

PLANNERS = {
    "cem": "cross-entropy method: refit a Gaussian to the best plans (Rubinstein 1999; PETS: Chua et al. 2018)",
    "icem": "the same with coloured noise, kept elites and a shrinking population (Pinneri et al. 2020)",
    "mppi": "weighted mean of all plans, weights exp(return / temperature) (Williams et al. 2017)",
    "random_shooting": "the best of independent plans",
}
PROPAGATIONS = {
    "tsinf": "a particle keeps its function",
    "ts1": "a particle takes another function at every step",
    "expectation": "the mean of all functions at every step",
}


@dataclass(frozen=True)
class PlanningConfig:
    """Search of action sequences at every step of an episode."""

    horizon: int = 25
    """Steps of a plan (at most those that are left in the trial)."""
    population: int = 200
    """Plans of an iteration."""
    iterations: int = 4
    """Rounds of sampling and refitting (random_shooting: all in one round)."""
    elite_share: float = 0.1
    """Share of the population that the next round is fitted to."""
    momentum: float = 0.1
    """How much of the old mean and spread stays at a refit."""
    initial_std: float = 0.5
    """Spread of the first round, in half widths of the action box."""
    noise_exponent: float = 2.0
    """icem: power spectrum 1 / f^exponent of the noise along a plan; 0 is white."""
    kept_share: float = 0.3
    """icem: share of the elites that stays in the population of the next round and of the next step."""
    shrink: float = 1.25
    """icem: factor by which the population shrinks from round to round."""
    temperature: float = 0.1
    """mppi: of the weights, in standard deviations of the plans' returns."""
    discount: float = 1.0
    """gamma of a plan's return."""
    terminal_value: str = "none"
    """What lies beyond the end of a plan: 'none', or 'learned': a value function that is fitted to all real trials."""
    draws: int = 5
    """Functions that a plan is tried under."""
    particles: int = 2
    """Particles of each function."""
    propagation: str = "tsinf"
    """'tsinf', 'ts1' or 'expectation'."""
    objective: str = "mean"
    """'mean', 'cvar', 'mean_minus_std' or 'optimistic'."""
    risk_share: float = 0.2
    """cvar: share of the worst particles."""
    risk_weight: float = 1.0
    """mean_minus_std and optimistic: how many standard deviations."""

    def __post_init__(self) -> None:
        check = Checks(self, "planning")
        check.at_least(1, "horizon", "population", "iterations", "draws", "particles")
        check.share("elite_share", "risk_share", "discount")
        check.share("momentum", "kept_share", zero=True, one=False)
        check.above_zero("initial_std", "temperature")
        check.number(0, "noise_exponent", "risk_weight")
        check.number(1, "shrink")
        check.word("propagation", PROPAGATIONS)
        check.word("objective", OBJECTIVES)
        check.word("terminal_value", TERMINAL_VALUES)

    @property
    def elites(self) -> int:
        """Plans that a round is fitted to."""
        return max(1, round(self.elite_share * self.population))
