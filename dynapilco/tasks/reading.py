"""Read a task off an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from dynapilco.core.errors import EnvironmentFault, UserError
from dynapilco.dynamics.encoding import Geometry
from dynapilco.tasks.contract import Contract
from dynapilco.tasks.flat import ENDED, REWARD, ActionCodec, observation_size
from dynapilco.tasks.known import Known, known_of
from dynapilco.tasks.make import one_line
from dynapilco.tasks.task import StepFunction, Task, learned_margin, learned_reward

RESETS = 256
"""How often an environment that does not name its start distribution is reset to estimate it."""
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
    known = known_of(env)
    if terminated is not None:
        if margin is not None:
            raise UserError("margin and terminated both say when episodes end: expected one of them")
        margin = _margin_of(terminated)
    reward, margin = reward or known.reward, margin or known.margin
    learned = (*known.gauges, *((REWARD,) if reward is None else ()))
    if reward is None and margin is None:
        learned = (*learned, ENDED)
    states = size + len(learned)
    geometry = Geometry(
        states,
        codec.columns,
        tuple(known.angle_indices),
        tuple((position, velocity) for position, velocity in known.position_velocity_pairs),
        known.dt,
        unseen=tuple(range(size, states)),
        choices=codec.choices,
        bounds=_bounds(env.observation_space, len(learned)),
    )
    for title, function in (("reward", reward), ("margin" if terminated is None else "terminated", margin)):
        if function is not None:
            _check_function(name, title, function, states, codec.columns)
    if known.success is not None and not callable(known.success):
        raise UserError(f"environment {name!r}: success={known.success!r}: expected a function success(states, xp)")
    mean, std, samples = _start(env, size)
    zeros = torch.zeros(len(learned))
    if ENDED in learned:
        margin = learned_margin(learned, states)
    return Task(
        geometry=geometry,
        codec=codec,
        horizon=_horizon(env),
        reward=reward or learned_reward(learned, states),
        success=known.success,
        start_mean=torch.cat([mean, zeros]),
        start_std=torch.cat([std, zeros]),
        names=(*_labels(name, known, "state_names", [f"s{i}" for i in range(size)]), *learned),
        units=(*_labels(name, known, "state_units", [""] * size), *("" for _ in learned)),
        action_names=_labels(name, known, "action_names", [f"u{i}" for i in range(codec.columns)]),
        action_units=_labels(name, known, "action_units", [""] * codec.columns),
        starts=None if samples is None else torch.cat([samples, zeros.expand(len(samples), -1)], 1),
        learned=learned,
        gauges=known.gauges,
        margin=margin,
        cos_sin=_cos_sin(name, known),
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


def _labels(name: str, known: Known, attribute: str, default: list[str]) -> tuple[str, ...]:
    labels = getattr(known, attribute)
    labels = tuple(default if labels is None else labels)
    if len(labels) != len(default):
        raise UserError(f"environment {name!r}: {attribute}={labels!r}: expected {len(default)} texts")
    return labels


def _check_function(name: str, title: str, function: Any, states: int, actions: int) -> None:
    """Run a function of a step once on torch tensors, as imagination will."""
    wanted = f"expected a method {title}(state, action, next_state, xp) that works with numpy and torch"
    if not callable(function):
        raise UserError(f"environment {name!r}: its {title} is {function!r}: {wanted}")
    x, u = torch.zeros(3, 2, states, requires_grad=True), torch.zeros(3, 2, actions, requires_grad=True)
    try:
        value: Any = function(x, u, x, torch)
    except Exception as error:  # whatever somebody's function raises
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"environment {name!r}: its {title} fails on tensors ({reason}): {wanted}") from error
    if not isinstance(value, Tensor) or value.shape != (3, 2):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(
            f"environment {name!r}: its {title} gives {got} for states (3, 2, {states}): expected a tensor (3, 2)"
        )


def _horizon(env: gymnasium.Env) -> int:
    limit = env.spec.max_episode_steps if env.spec is not None else None
    limit = limit or _time_limit(env) or getattr(env.unwrapped, "horizon", None)
    if not limit:
        raise UserError(f"environment {env_name(env)!r} has no time limit: register it with max_episode_steps")
    return int(limit)


def _time_limit(env: gymnasium.Env) -> int | None:
    """Steps of a ``TimeLimit`` among the wrappers."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return env._max_episode_steps
        env = env.env
    return None


def _start(env: gymnasium.Env, states: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean, standard deviation (states,) and, where the environment does not name them, samples (K, states)."""
    base: Any = env.unwrapped
    samples = None
    if hasattr(base, "start_mean") and hasattr(base, "start_std"):
        mean, std = np.asarray(base.start_mean), np.asarray(base.start_std)
        if mean.shape != (states,) or std.shape not in ((), (states,)):
            raise UserError(
                f"environment {env_name(env)!r}: start_mean {mean.shape}, start_std {std.shape}: "
                f"expected ({states},) each"
            )
        std = np.broadcast_to(std, (states,))
    else:
        contract = Contract(env, tell=lambda _: None)  # what is odd is told when the first trial is
        try:
            resets = np.stack([contract.reset(seed)[0].astype(np.float64) for seed in range(RESETS)])
        except EnvironmentFault as fault:
            raise EnvironmentFault(f"environment {env_name(env)!r}: {fault}") from fault
        mean, std = resets.mean(0), resets.std(0)
        samples = torch.tensor(resets, dtype=torch.float32)
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(np.array(std), dtype=torch.float32), samples
