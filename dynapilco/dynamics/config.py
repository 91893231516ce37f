"""Settings of the dynamics model."""

from __future__ import annotations

from dataclasses import dataclass

from dynapilco.core.checks import Checks


@dataclass(frozen=True)
class DynamicsConfig:
    """The network, what it predicts, and its prior."""

    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers; none given takes what suits the inference method (random_features: 300, others:
    64 64)."""
    activation: str = "tanh"
    """tanh, relu or silu."""
    targets: str = "auto"
    """What is predicted: 'velocity' (changes of velocities; positions are integrated), 'corrected' (the same and what
    that integration misses), 'delta' (changes of every column), or 'auto' (corrected where the environment names its
    position-velocity pairs)."""
    noise: str = "process"
    """'process' (noise acts on the state) or 'observation' (a clean state; only the policy sees sensor noise)."""
    prior_scale: float = 1.0
    """Prior standard deviation of hidden weights, times 1/sqrt(fan-in)."""
    prior_output_scale: float = 2.0
    """The same for the last layer: how far the function roams before data, in target standard deviations."""
    noise_floor: float = 0.005
    """Smallest learned noise, in target standard deviations."""
    reach: float = 3.0
    """Imagined states stay in the box of visited states made this many times as wide, in columns that the environment
    neither bounds nor names as angles, positions or velocities; inf: they go anywhere."""

    def __post_init__(self) -> None:
        check = Checks(self, "dynamics")
        check.word("targets", ("auto", "velocity", "corrected", "delta"), "targets")
        check.word("noise", ("process", "observation"), "noise")
        check.above_zero("prior_scale", "prior_output_scale")
        check.number(0, "noise_floor")
        if not self.reach >= 1:
            raise check.refuse("reach", "a number of at least 1, or inf")
        if self.hidden and min(self.hidden) < 1:
            raise check.refuse("hidden", "layers of width 1 or more")
