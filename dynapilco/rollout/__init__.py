"""Imagined rollouts: particles through draws, by two engines and two ways of propagation."""

from dynapilco.rollout.config import PROPAGATIONS, RolloutConfig
from dynapilco.rollout.damping import Damping
from dynapilco.rollout.noise import RolloutNoise, StartSampler, sample_noise
from dynapilco.rollout.rewards import step_rewards
from dynapilco.rollout.rollout import Simulator, Trajectories
from dynapilco.rollout.terminal import Paths, TerminalValue, fit_value

__all__ = [
    "PROPAGATIONS",
    "Damping",
    "Paths",
    "RolloutConfig",
    "RolloutNoise",
    "Simulator",
    "StartSampler",
    "TerminalValue",
    "Trajectories",
    "fit_value",
    "sample_noise",
    "step_rewards",
]
