"""What an environment asks for, as the learned model sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from dynapilco.dynamics.encoding import Geometry
from dynapilco.tasks.angles import Angles, Pairs
from dynapilco.tasks.contract import warn
from dynapilco.tasks.flat import ENDED, REWARD, ActionCodec, FlatEnv, Gauge
from dynapilco.tasks.history import Stack, StackedEnv

StepFunction = Callable[[Any, Any, Any, ModuleType], Any]
"""(state, action, next_state, xp) -> (...,), of arrays (..., D), (..., M), (..., D) of the module xp."""
SuccessFunction = Callable[[Any, ModuleType], Any]

SHARPNESS = 10.0
"""How fast the probability of an end rises as a margin falls through 0: by a factor e for each tenth."""


@dataclass(frozen=True)
class Task:
    """An environment as the learned model sees it.

    Attributes
    ----------
    geometry : Geometry
        Of the state: the flattened observation, and what is learned beside the motion.
    codec : ActionCodec
        Between vectors (M,) and the environment's actions.
    horizon : int
        Steps of a trial.
    reward : callable
        ``reward(state, action, next_state, xp)`` -> (...,).
    success : callable or None
        ``success(states, xp)`` -> bool, of the true states (T, D) of a whole trial.
    start_mean, start_std : Tensor
        Gaussian start distribution of the state, (D,).
    starts : Tensor or None
        Start states (K, D) that stand for a distribution that is not known; they count before the Gaussian.
    names, units, action_names, action_units : tuple of str
    learned : tuple of str
        What is learned beside the motion: names of gauges, ``"reward"``, ``"ended"``.
    gauges : mapping of str to callable
        How each gauge is read off the unwrapped environment.
    margin : callable or None
        ``margin(state, action, next_state, xp)`` -> (...,), above 0 where the episode goes on, in units of what is
        comfortable; None where nothing is known to end it.
    stack : Stack or None
        How states hold earlier observations and actions, where they do; start distributions are then of single ones.
    cos_sin : sequence of tuple or None
        Observation columns (cosine, sine) or (cosine, sine, velocity) of each angle, as far as they are known; None
        where nothing is said about them.
    angles : Angles or None
        How states hold angles in the place of those columns, where they do; start distributions are then of the
        environment's own observations.
    """

    geometry: Geometry
    codec: ActionCodec
    horizon: int
    reward: StepFunction
    success: SuccessFunction | None
    start_mean: Tensor
    start_std: Tensor
    names: tuple[str, ...]
    units: tuple[str, ...]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    starts: Tensor | None = None
    learned: tuple[str, ...] = ()
    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    margin: StepFunction | None = None
    stack: Stack | None = None
    cos_sin: Pairs | None = None
    angles: Angles | None = None

    def flat(self, env: gymnasium.Env, tell: Callable[[str], None] = warn) -> FlatEnv:
        """The environment with this task's vectors on both sides; ``tell`` hears of what is odd and no error."""
        if self.stack is not None:
            return StackedEnv(env, self.codec, self.learned, dict(self.gauges), tell, self.stack, self.angles)
        return FlatEnv(env, self.codec, self.learned, self.gauges, tell, self.angles)

    @property
    def size(self) -> int:
        """Numbers of one observation, as a state holds it: the first columns of a state."""
        turned = 0 if self.angles is None else len(self.angles.circles)
        return len(self.start_mean) - len(self.learned) - turned

    @property
    def observed_size(self) -> int:
        """Columns of :meth:`observed`."""
        turned = 0 if self.angles is None else len(self.angles.circles)
        return self.geometry.states - len(self.learned) + turned * (1 if self.stack is None else self.stack.length)

    def observed(self, states: Any, xp: ModuleType) -> Any:
        """What an observer sees of states (..., D): nothing of what is learned beside the motion, cosines and sines.

        The first columns are the environment's own observation; with a history, earlier ones and actions follow.
        """
        seen = states[..., : self.geometry.states - len(self.learned)]
        if self.angles is None:
            return seen
        steps = 1 if self.stack is None else self.stack.length
        parts = [self.angles.decode(seen[..., i * self.size : (i + 1) * self.size], xp) for i in range(steps)]
        return xp.concatenate([*parts, seen[..., steps * self.size :]], -1)

    @property
    def low(self) -> np.ndarray:
        """Lower bounds of an action vector, (M,)."""
        return self.codec.low

    @property
    def high(self) -> np.ndarray:
        """Upper bounds, (M,)."""
        return self.codec.high

    @property
    def dt(self) -> float | None:
        """Seconds a step, None where the environment does not say."""
        return self.geometry.dt

    @property
    def ends(self) -> bool:
        """Whether an episode may end before its time."""
        return self.margin is not None

    def ended(self, state: Any, action: Any, next_state: Any, xp: ModuleType) -> Any:
        """Whether a step ended the episode, (...,) bool."""
        assert self.margin is not None
        return self.margin(state, action, next_state, xp) <= 0

    def end_probability(self, state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        """How likely a step ends the episode, (...,): a smooth version of :meth:`ended`, with a gradient."""
        assert self.margin is not None
        return torch.sigmoid(-SHARPNESS * self.margin(state, action, next_state, torch))

    def was_end(self, state: Tensor, action: Tensor, next_state: Tensor) -> Tensor:
        """Whether recorded steps ended their episode, (...,) bool: where that is learned, the record says it."""
        if ENDED in self.learned:
            return next_state[..., learned_column(self.learned, ENDED, self.geometry.states)] > 0.5
        if not self.ends:
            return torch.zeros(next_state.shape[:-1], dtype=torch.bool, device=next_state.device)
        return self.ended(state, action, next_state, torch)

    def regressing_ends(self) -> Task:
        """The same task, with its end learned as a number between 0 and 1 instead of a probability."""
        geometry = replace(self.geometry, binary=())
        return replace(self, geometry=geometry, margin=regressed_margin(self.learned))

    def sample_start(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Start states (*shape, D)."""
        first = self._first_observations(shape, generator)
        if self.angles is not None:
            first = self.angles.encode(first, torch)
        if self.stack is None:
            return first
        return self.stack.join(first, self.stack.first(first[..., : self.size], torch), torch)

    def _first_observations(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        device = generator.device
        if self.starts is not None:
            rows = torch.randint(len(self.starts), shape, generator=generator, device=device)
            return self.starts.to(device)[rows]
        noise = torch.randn(*shape, len(self.start_mean), generator=generator, device=device)
        return self.start_mean.to(device) + self.start_std.to(device) * noise


def learned_column(learned: tuple[str, ...], name: str, states: int) -> int:
    """Where a learned column stands among the states: they come last, in order."""
    return states - len(learned) + learned.index(name)


def learned_reward(learned: tuple[str, ...], states: int) -> StepFunction:
    """The reward as the model predicts it."""
    column = learned_column(learned, REWARD, states)
    return lambda state, action, next_state, xp: next_state[..., column]


def learned_margin(learned: tuple[str, ...]) -> StepFunction:
    """Of the logit of an end that the model predicts: 0 is as likely as not, and an end has the probability it says."""
    column = learned.index(ENDED) - len(learned)
    return lambda state, action, next_state, xp: next_state[..., column] * (-1 / SHARPNESS)


def regressed_margin(learned: tuple[str, ...]) -> StepFunction:
    """Of an end that is predicted as a number: 1 where the episode goes on (0), -1 where it ends (1)."""
    column = learned.index(ENDED) - len(learned)
    return lambda state, action, next_state, xp: 1 - 2 * next_state[..., column]
