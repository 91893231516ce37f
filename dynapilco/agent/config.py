"""Everything that defines a run, in one typed dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dynapilco.core.checks import Checks
from dynapilco.core.errors import UserError
from dynapilco.dynamics.config import DynamicsConfig
from dynapilco.imagination.config import ALGORITHMS, ImaginationConfig
from dynapilco.planning.config import PLANNERS, PlanningConfig
from dynapilco.rollout.config import RolloutConfig
from dynapilco.search.config import SearchConfig
from dynapilco.search.evolution_config import EvolutionConfig
from dynapilco.tasks.angles import parse_pairs

EXPLORATIONS = {
    "multisine": "strong excitation: a squashed sum of sinusoids of 0.3 to 2 Hz with random phases and set power",
    "sinusoid": "smooth excitation: a squashed sum of sinusoids of 0.2 to 1.5 Hz with random phases",
    "random": "independent uniform actions",
}


AUTO, PATHWISE, EVOLUTION = "auto", "pathwise", "evolution"
CONTROLLERS = {
    AUTO: "pathwise where the reward changes smoothly with the state, else evolution; measured after exploration",
    PATHWISE: "a policy, improved by gradients of the predicted return through the model",
    EVOLUTION: "a policy, improved by evolution strategies in the model: no gradients (PGPE: Sehnke et al. 2010)",
    **PLANNERS,
    **ALGORITHMS,
}


ANGLES = {
    AUTO: "those that the environment or the catalogue names; where neither says anything, what the first data show",
    "declared": "those that the environment or the catalogue names",
    "off": "none: cosines and sines are columns as others",
}


REACTIONS = {"stop": "keep the trial, save, and end the learning with an error", "continue": "say it, and go on"}


@dataclass(frozen=True)
class ExplorationConfig:
    """The trials before there is a model."""

    kind: str = "multisine"
    """'multisine', 'sinusoid' or 'random'."""
    trials: int = 1
    """How many trials explore before the first policy trial, at least."""
    least_steps: int = 50
    """Environment steps before the first policy trial, at least, where episodes may end early: more trials explore."""

    def __post_init__(self) -> None:
        check = Checks(self, "exploration")
        check.word("kind", EXPLORATIONS, "exploration kind")
        check.at_least(1, "trials", "least_steps")


@dataclass(frozen=True)
class AgentConfig:
    """All settings of an agent; the defaults are those of the quick start."""

    env_id: str = "dynapilco/CartPoleSwingUp-v0"
    """Gymnasium id of the task, also as 'module:id'."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    policy: str = "MlpPolicy"
    """MlpPolicy, RbfPolicy or LinearPolicy (or mlp, rbf, linear)."""
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    """Options of the policy, e.g. hidden = [48, 48]."""
    inference: str = "random_features"
    """Inference method of the dynamics model: one word swaps it."""
    inference_kwargs: dict[str, Any] = field(default_factory=dict)
    """Options of the inference method, e.g. members = 10."""
    controller: str = AUTO
    """'pathwise' (a policy, searched by gradients through the model), 'evolution' (the same without gradients), 'auto'
    (one of the two, by whether the reward has gradients), a planner, which searches actions at every step (cem, icem,
    mppi, random_shooting), or an algorithm of stable-baselines3, trained on imagined transitions (sac, td3, ddpg, dqn,
    ppo, a2c)."""
    controller_kwargs: dict[str, Any] = field(default_factory=dict)
    """Options of an algorithm of stable-baselines3, e.g. learning_rate = 1e-3."""
    history: int = 1
    """Observations (with the actions between them) that a state holds, for systems that one observation does not
    tell."""
    angles: str = AUTO
    """Cosines and sines of the observation that become angles in the model's state: 'auto' (those that the environment
    or the catalogue names; where neither says anything, those that the first data show), 'declared' (those that are
    named, no others), 'off', or by hand columns: 'cosine,sine' or 'cosine,sine,velocity' of each, as '0,1,2 3,4'."""
    seed: int = 0
    """One seed gives the same run, bit for bit on CPU."""
    total_timesteps: int = 360
    """Environment steps; trials are whole, so the last one may go past it."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', ..."""
    on_env_error: str = "stop"
    """When the environment raises or gives bad numbers in the middle of an episode, whose sound steps are kept: 'stop'
    with the error, or 'continue' with the next trial."""
    on_disagreement: str = "continue"
    """When a reward or an end that is known differs from what the environment does: 'continue' with what is known,
    counting the steps, or 'stop' after the trial."""
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)
    planning: PlanningConfig = field(default_factory=PlanningConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)

    def __post_init__(self) -> None:
        check = Checks(self)
        check.word("controller", CONTROLLERS)
        check.word("on_env_error", REACTIONS)
        check.word("on_disagreement", REACTIONS)
        check.at_least(1, "history", words="1 (no history) or more observations")
        check.at_least(0, "seed", words="0 or more")
        check.at_least(1, "total_timesteps", words="at least 1 environment step")
        powers = (self.search.initial_reward_power, self.search.final_reward_power)
        if self.rollout.terminal_value != "none" and powers != (1, 1):
            raise UserError(f"rollout.terminal_value='learned': expected reward powers of 1, not {powers}")
        if self.angles not in ANGLES:
            parse_pairs(self.angles)


def acting_name(controller: str, trial: int | None) -> str:
    """What acted in an evaluation, in words."""
    if controller in ALGORITHMS:
        return f"the newest {controller} policy"
    if controller in PLANNERS:
        return f"{controller} on the newest model"
    return "an untrained policy (there was no policy trial)" if trial is None else f"the policy of trial {trial}"
