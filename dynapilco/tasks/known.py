"""What is known about environments of others: rewards, ends, angles, names, by Gymnasium id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import gymnasium

from dynapilco.core.errors import UserError
from dynapilco.tasks.attributes import own_attributes
from dynapilco.tasks.contract import shown
from dynapilco.tasks.flat import Gauge
from dynapilco.tasks.make import one_line
from dynapilco.tasks.task import StepFunction, SuccessFunction


@dataclass(frozen=True)
class Known:
    """What may be said about an environment; each part is optional.

    Attributes
    ----------
    reward : callable, optional
        ``reward(state, action, next_state, xp)`` -> (...,), with numpy and torch. Without it the reward is learned.
    margin : callable, optional
        Of the same arguments: above 0 where the episode goes on, at most 0 where the step ended it, 1 where all is
        well. Without it, and with a reward, episodes do not end before their time.
    success : callable, optional
        ``success(states, xp)`` -> bool.
    dt : float, optional
        Seconds a step.
    angle_indices : sequence of int
        State columns in radians.
    position_velocity_pairs : sequence of (int, int)
        (position column, velocity column), the velocity being the position's derivative.
    cos_sin_pairs : sequence of (int, int) or (int, int, int), optional
        Columns (cosine, sine) of an angle, or (cosine, sine, velocity) with its derivative in rad/s: the model's state
        holds the angle in their place. Where nothing is said they are looked for in the first data; () says that there
        are none.
    gauges : mapping of str to callable
        ``gauge(unwrapped environment)`` -> float: what the observation does not hold and the reward needs. The state
        gets a column for each, after the observation: how much it changed in the last step. Functions of a step find
        it in ``next_state``.
    state_names, state_units, action_names, action_units : sequence of str, optional
    """

    reward: StepFunction | None = None
    margin: StepFunction | None = None
    success: SuccessFunction | None = None
    dt: float | None = None
    angle_indices: Sequence[int] = ()
    position_velocity_pairs: Sequence[Sequence[int]] = ()
    cos_sin_pairs: Sequence[Sequence[int]] | None = None
    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    state_names: Sequence[str] | None = None
    state_units: Sequence[str] | None = None
    action_names: Sequence[str] | None = None
    action_units: Sequence[str] | None = None


Describe = Callable[[gymnasium.Env], Known]
_DESCRIPTIONS: dict[str, Describe] = {}


def register_known(*env_ids: str) -> Callable[[Describe], Describe]:
    """Decorate ``describe(env) -> Known`` to say what is known about environments with these ids.

    Examples
    --------
    >>> from dynapilco.tasks import Known, register_known
    >>> @register_known("me/Tank-v0")
    ... def tank(env):
    ...     return Known(reward=lambda state, action, next_state, xp: -xp.abs(next_state[..., 0] - 0.6))
    """

    def add(describe: Describe) -> Describe:
        _DESCRIPTIONS.update(dict.fromkeys(env_ids, describe))
        return describe

    return add


def known_ids() -> list[str]:
    """Ids that something is registered for."""
    return list(_DESCRIPTIONS)


def known_of(env: gymnasium.Env) -> Known:
    """What is registered for the environment's id, under what the environment says about itself.

    Raises
    ------
    UserError
        Where what is registered raises or is no :class:`Known`.
    """
    own = own_attributes(env.unwrapped, [f.name for f in fields(Known)])
    return replace(_registered(env), **own)


def _registered(env: gymnasium.Env) -> Known:
    if env.spec is None or env.spec.id not in _DESCRIPTIONS:
        return Known()
    what = f"environment {env.spec.id!r}: what is registered for it by register_known"
    try:
        described: Any = _DESCRIPTIONS[env.spec.id](env)
    except Exception as error:  # whatever somebody's function raises
        raise UserError(f"{what} raised {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(described, Known):
        raise UserError(f"{what} gives {shown(described)}: expected a Known")
    return described
