"""Read a task off an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch

from dynapilco.core.errors import UserError
from dynapilco.dynamics.encoding import Geometry
from dynapilco.tasks.attributes import own_attributes
from dynapilco.tasks.checks import check_step_function, check_success, checked, whole
from dynapilco.tasks.flat import ENDED, REWARD, ActionCodec, observation_size
from dynapilco.tasks.known import Known, known_of
from dynapilco.tasks.start import start_of
from dynapilco.tasks.task import StepFunction, Task, learned_column, learned_margin, learned_reward

HUGE = 1e30
"""A bound of a box beyond which it is none: some environments write the largest float for infinity."""


def task_of(
    env: gymnasium.Env,
    reward: StepFunction | None = None,
    margin: StepFunction | None = None,
    terminated: StepFunction | None = None,
) -> Task:
    """Read a task off an environment.

    What the environment says about itself (``reward``, ``margin``, ``dt``, ``angle_indices``, and so on; see
    ``docs/reference/environments.md``) counts before what is registered for its id
    (:func:`~dynapilco.tasks.register_known`). Without a reward function the reward and the end of episodes are learned.

    Parameters
    ----------
    env : gymnasium.Env
    reward, margin : callable, optional
        Functions of (state, action, next_state, xp) -> (...,) that count before all others: what a step earns, and how
        far it is from ending the episode (at most 0 where it ends it, 1 where all is well).
    terminated : callable, optional
        Instead of a margin, where there is no distance to speak of: of the same arguments, whether the step ended the
        episode (bool or 0 and 1). Gradients know nothing of such an end.

    Raises
    ------
    UserError
        For spaces that are not supported, no time limit, functions that torch cannot run, or attributes of the wrong
        kind or shape.
    """
    name = env_name(env)
    try:
        codec, size = ActionCodec.of(env.action_space), observation_size(env.observation_space)
    except UserError as error:
        raise UserError(f"environment {name!r}: {error}") from error
    known = checked(name, known_of(env), size, codec.columns)
    if terminated is not None:
        if margin is not None:
            raise UserError("margin and terminated both say when episodes end: expected one of them")
        margin = _margin_of(terminated)
    reward, margin = reward or known.reward, margin or known.margin
    learned = _learned(known, reward, margin)
    states, horizon = size + len(learned), _horizon(env)
    for title, function in (("reward", reward), ("margin" if terminated is None else "terminated", margin)):
        if function is not None:
            check_step_function(name, title, function, states, codec.columns)
    if known.success is not None:
        check_success(name, known.success, horizon, size)
    mean, std, samples = start_of(env, name, size)
    zeros = torch.zeros(len(learned))
    labels = _labels(known, size, codec.columns)
    return Task(
        geometry=_geometry(env, known, size, learned, codec),
        codec=codec,
        horizon=horizon,
        reward=reward or learned_reward(learned, states),
        success=known.success,
        start_mean=torch.cat([mean, zeros]),
        start_std=torch.cat([std, zeros]),
        names=(*labels["state_names"], *learned),
        units=(*labels["state_units"], *("" for _ in learned)),
        action_names=labels["action_names"],
        action_units=labels["action_units"],
        starts=None if samples is None else torch.cat([samples, zeros.expand(len(samples), -1)], 1),
        learned=learned,
        gauges=known.gauges,
        margin=learned_margin(learned) if ENDED in learned else margin,
        cos_sin=_cos_sin(name, known),
    )


def _learned(known: Known, reward: StepFunction | None, margin: StepFunction | None) -> tuple[str, ...]:
    """What is learned beside the motion."""
    learned = (*known.gauges, *((REWARD,) if reward is None else ()))
    return (*learned, ENDED) if reward is None and margin is None else learned


def _geometry(env: gymnasium.Env, known: Known, size: int, learned: tuple[str, ...], codec: ActionCodec) -> Geometry:
    states = size + len(learned)
    return Geometry(
        states,
        codec.columns,
        tuple(known.angle_indices),
        tuple((position, velocity) for position, velocity in known.position_velocity_pairs),
        known.dt,
        unseen=tuple(range(size, states)),
        choices=codec.choices,
        bounds=_bounds(env.observation_space, len(learned)),
        binary=(learned_column(learned, ENDED, states),) if ENDED in learned else (),
    )


def _cos_sin(name: str, known: Known) -> tuple[tuple[int, ...], ...] | None:
    """The declared columns of angles as tuples."""
    if known.cos_sin_pairs is None:
        return None
    try:
        return tuple(tuple(int(c) for c in pair) for pair in known.cos_sin_pairs)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"environment {name!r}: cos_sin_pairs={known.cos_sin_pairs!r}: expected columns (cosine, sine) or "
            "(cosine, sine, velocity) of each angle"
        ) from error


def _margin_of(terminated: StepFunction) -> StepFunction:
    """1 where the episode goes on, -1 where it ends."""
    if not callable(terminated):
        raise UserError(f"terminated={terminated!r}: expected a function terminated(state, action, next_state, xp)")

    def ends(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        one = xp.ones_like(next_state[..., 0])
        return xp.where(terminated(state, action, next_state, xp) != 0, -one, one)

    return ends


def env_name(env: gymnasium.Env) -> str:
    """The id, or the class of an environment without one."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _bounds(space: Any, learned: int) -> tuple[tuple[float, float], ...]:
    """What a box of observations says of its columns, then nothing of those learned; () where it says nothing."""
    low, high = (np.asarray(bound, np.float64).reshape(-1) for bound in (space.low, space.high))
    low, high = np.where(low < -HUGE, -np.inf, low), np.where(high > HUGE, np.inf, high)
    if not (np.isfinite(low).any() or np.isfinite(high).any()):
        return ()
    return (*zip(low.tolist(), high.tolist(), strict=True), *((-np.inf, np.inf) for _ in range(learned)))


def _labels(known: Known, size: int, actions: int) -> dict[str, tuple[str, ...]]:
    """Names and units, with defaults where none are given."""
    default = {
        "state_names": [f"s{i}" for i in range(size)],
        "state_units": [""] * size,
        "action_names": [f"u{i}" for i in range(actions)],
        "action_units": [""] * actions,
    }
    return {label: tuple(getattr(known, label) or texts) for label, texts in default.items()}


def _horizon(env: gymnasium.Env) -> int:
    limit = env.spec.max_episode_steps if env.spec is not None else None
    limit = limit or _time_limit(env)
    if limit:
        return int(limit)
    own = own_attributes(env.unwrapped, ["horizon"])
    if not own:
        raise UserError(f"environment {env_name(env)!r} has no time limit: register it with max_episode_steps")
    return whole(env_name(env), "horizon", own["horizon"], 1)


def _time_limit(env: gymnasium.Env) -> int | None:
    """Steps of a ``TimeLimit`` among the wrappers."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return env._max_episode_steps
        env = env.env
    return None
