"""What an environment asks for: geometry, bounds, reward, success and start, read off its attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.dynamics.encoding import Geometry

RewardFunction = Callable[[Any, Any, Any, ModuleType], Any]
SuccessFunction = Callable[[Any, ModuleType], Any]


@dataclass(frozen=True)
class Task:
    """An environment as the learned model sees it.

    Attributes
    ----------
    geometry : Geometry
    low, high : ndarray
        Action box, (M,).
    horizon : int
        Steps of a trial.
    reward : callable
        ``reward(state, action, next_state, xp)`` -> (...,).
    success : callable or None
        ``success(states, xp)`` -> bool, of the true states (T, D) of a whole trial.
    start_mean, start_std : Tensor
        Gaussian start distribution of the state, (D,).
    names, units, action_names, action_units : tuple of str
    """

    geometry: Geometry
    low: np.ndarray
    high: np.ndarray
    horizon: int
    reward: RewardFunction
    success: SuccessFunction | None
    start_mean: Tensor
    start_std: Tensor
    names: tuple[str, ...]
    units: tuple[str, ...]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]

    @property
    def dt(self) -> float | None:
        """Seconds a step, None where the environment does not say."""
        return self.geometry.dt

    def sample_start(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Start states (*shape, D)."""
        device = generator.device
        noise = torch.randn(*shape, self.geometry.states, generator=generator, device=device)
        return self.start_mean.to(device) + self.start_std.to(device) * noise


def make_env(env_id: str, env_kwargs: dict[str, Any] | None = None, render_mode: str | None = None) -> gymnasium.Env:
    """``gymnasium.make`` with errors that name the nearest registered ids.

    Raises
    ------
    UserError
        For an unknown id, a module that cannot be imported, or keywords that the environment refuses.
    """
    try:
        return gymnasium.make(env_id, render_mode=render_mode, **(env_kwargs or {}))
    except gymnasium.error.UnregisteredEnv as error:
        raise _unknown_env(env_id) from error
    except ModuleNotFoundError as error:
        missing = error.name or getattr(error.__cause__, "name", None)  # Gymnasium's own error has no name
        raise UserError(f"environment {env_id!r}: module {missing!r} is not installed") from error
    except gymnasium.error.Error as error:
        if "Malformed" in str(error):
            raise _unknown_env(env_id) from error
        raise UserError(f"environment {env_id!r}: {_one_line(error)}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"environment {env_id!r} does not take these options: {_one_line(error)}") from error
    except Exception as error:  # whatever the constructor of somebody's environment raises
        reason = f"{type(error).__name__}: {_one_line(error)}"
        raise UserError(f"environment {env_id!r} cannot be made ({reason})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _unknown_env(env_id: str) -> UserError:
    bare = env_id.partition(":")[2] or env_id
    ours = [name for name in gymnasium.registry if name.startswith("dynapilco/")]
    error = unknown_name("environment", bare, gymnasium.registry)
    nearest = str(error).partition("valid names are ")[0]
    return UserError(f"{nearest}expected a registered Gymnasium id, e.g. {', '.join(sorted(ours))}")


def task_of(env: gymnasium.Env) -> Task:
    """Read a task off an environment.

    The environment may say ``dt``, ``horizon``, ``angle_indices``, ``position_velocity_pairs``, ``state_names`` and so
    on (see ``docs/reference/environments.md``); it must have ``reward(state, action, next_state, xp)``.

    Raises
    ------
    UserError
        For spaces that are not flat boxes, unbounded actions, no time limit, no reward function that torch can run, or
        attributes of the wrong kind or shape.
    """
    base = env.unwrapped
    _check_spaces(env)
    obs_space, act_space = env.observation_space, env.action_space
    assert isinstance(obs_space, spaces.Box) and isinstance(act_space, spaces.Box)
    states, actions = obs_space.shape[0], act_space.shape[0]
    geometry = Geometry(
        states,
        actions,
        tuple(getattr(base, "angle_indices", ())),
        tuple(tuple(pair) for pair in getattr(base, "position_velocity_pairs", ())),
        getattr(base, "dt", None),
    )
    reward: Any = getattr(base, "reward", None)
    success = getattr(base, "success", None)
    _check_reward(env, reward, states, actions)
    if success is not None and not callable(success):
        raise UserError(f"environment {_name(env)!r}: success={success!r}: expected a function success(states, xp)")
    mean, std = _start(env, states)
    return Task(
        geometry=geometry,
        low=np.asarray(act_space.low, np.float32),
        high=np.asarray(act_space.high, np.float32),
        horizon=_horizon(env),
        reward=reward,
        success=success,
        start_mean=mean,
        start_std=std,
        names=_labels(env, "state_names", [f"s{i}" for i in range(states)]),
        units=_labels(env, "state_units", [""] * states),
        action_names=_labels(env, "action_names", [f"u{i}" for i in range(actions)]),
        action_units=_labels(env, "action_units", [""] * actions),
    )


def _labels(env: gymnasium.Env, attribute: str, default: list[str]) -> tuple[str, ...]:
    labels = tuple(getattr(env.unwrapped, attribute, default))
    if len(labels) != len(default):
        raise UserError(f"environment {_name(env)!r}: {attribute}={labels!r}: expected {len(default)} texts")
    return labels


def _check_reward(env: gymnasium.Env, reward: Any, states: int, actions: int) -> None:
    """Run the reward once on torch tensors, as imagination will."""
    wanted = "expected a method reward(state, action, next_state, xp) that works with numpy and torch"
    if not callable(reward):
        raise UserError(f"environment {_name(env)!r} has no reward function: {wanted}")
    x, u = torch.zeros(3, 2, states, requires_grad=True), torch.zeros(3, 2, actions, requires_grad=True)
    try:
        value: Any = reward(x, u, x, torch)
    except Exception as error:  # whatever somebody's function raises
        reason = f"{type(error).__name__}: {_one_line(error)}"
        raise UserError(f"environment {_name(env)!r}: its reward fails on tensors ({reason}): {wanted}") from error
    if not isinstance(value, Tensor) or value.shape != (3, 2):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(
            f"environment {_name(env)!r}: its reward gives {got} for states (3, 2, {states}): expected a tensor (3, 2)"
        )


def _name(env: gymnasium.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _check_spaces(env: gymnasium.Env) -> None:
    obs, act = env.observation_space, env.action_space
    if not isinstance(obs, spaces.Box) or len(obs.shape) != 1:
        raise UserError(f"environment {_name(env)!r}: observation space {obs} is not supported: expected a 1-D Box")
    if not isinstance(act, spaces.Box) or len(act.shape) != 1 or 0 in act.shape + obs.shape:
        raise UserError(f"environment {_name(env)!r}: action space {act} is not supported: expected a 1-D Box")
    if not (np.isfinite(act.low).all() and np.isfinite(act.high).all()):
        raise UserError(f"environment {_name(env)!r}: action space {act} is unbounded: expected finite bounds")


def _horizon(env: gymnasium.Env) -> int:
    limit = env.spec.max_episode_steps if env.spec is not None else None
    limit = limit or _time_limit(env) or getattr(env.unwrapped, "horizon", None)
    if not limit:
        raise UserError(f"environment {_name(env)!r} has no time limit: register it with max_episode_steps")
    return int(limit)


def _time_limit(env: gymnasium.Env) -> int | None:
    """Steps of a ``TimeLimit`` among the wrappers."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return env._max_episode_steps
        env = env.env
    return None


def _start(env: gymnasium.Env, states: int) -> tuple[Tensor, Tensor]:
    base: Any = env.unwrapped
    if hasattr(base, "start_mean") and hasattr(base, "start_std"):
        mean, std = np.asarray(base.start_mean), np.asarray(base.start_std)
        if mean.shape != (states,) or std.shape not in ((), (states,)):
            raise UserError(
                f"environment {_name(env)!r}: start_mean {mean.shape}, start_std {std.shape}: expected ({states},) each"
            )
        std = np.broadcast_to(std, (states,))
    else:  # moments of the reset distribution
        resets = np.stack([env.reset(seed=seed)[0] for seed in range(64)])
        mean, std = resets.mean(0), resets.std(0)
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(np.array(std), dtype=torch.float32)
