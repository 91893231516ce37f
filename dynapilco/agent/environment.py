"""Which environment an agent is about: made by id or handed over, named so that a checkpoint finds it again."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.tasks import Task, make_env

ONLY_LOOKING = ("Monitor", "RecordEpisodeStatistics", "RecordVideo", "HumanRendering", "RenderCollection")
"""Wrappers that leave a task what it is."""
UNREGISTERED = "unregistered:"
"""Prefix of the name of an environment that cannot be made by id."""


def open_env(env: GymEnv | str | None, env_kwargs: dict[str, Any], render: bool) -> tuple[GymEnv, str, dict[str, Any]]:
    """The environment, the id to record, and the keywords to record.

    Raises
    ------
    UserError
        For None, an unknown id, keywords that JSON cannot hold or that come with an environment object.
    """
    if env is None:
        raise UserError("env=None: expected a Gymnasium id or an environment")
    if isinstance(env, str):
        if not _is_plain(env_kwargs):
            raise UserError(f"env_kwargs={env_kwargs!r}: expected numbers, texts, truth values, lists and tables only")
        return make_env(env, env_kwargs, "rgb_array" if render else None), env, env_kwargs
    if env_kwargs:
        raise UserError(f"env_kwargs={env_kwargs!r}: expected none beside an environment that is already made")
    inner = single_env(env)
    if inner.spec is None:
        return env, UNREGISTERED + type(inner.unwrapped).__name__, {}
    kwargs = {name: value for name, value in inner.spec.kwargs.items() if name != "render_mode"}
    if not _is_plain(kwargs) or _is_changed(inner):
        return env, UNREGISTERED + inner.spec.id, {}
    return env, inner.spec.id, kwargs


def _is_changed(env: gymnasium.Env) -> bool:
    """Whether an environment differs from what its id makes: wrappers of the user's, another time limit."""
    spec = env.spec
    assert spec is not None
    registered = gymnasium.registry.get(spec.id)
    changing = [wrapper.name for wrapper in spec.additional_wrappers if wrapper.name not in ONLY_LOOKING]
    return bool(changing) or (registered is not None and spec.max_episode_steps != registered.max_episode_steps)


def single_env(env: Any) -> gymnasium.Env:
    """The one Gymnasium environment inside; trials step it themselves, to reset it with their own seeds."""
    if isinstance(env, gymnasium.Env):
        return env
    if isinstance(env, DummyVecEnv) and env.num_envs == 1:
        return env.envs[0]
    raise UserError(f"env={env!r}: expected a Gymnasium id, an environment, or a DummyVecEnv of one environment")


def describe(env_id: str, task: Task) -> dict[str, Any]:
    """What a checkpoint says about its environment."""
    circles = () if task.angles is None else task.angles.circles
    return {
        "env_id": env_id,
        "states": task.geometry.states,
        "actions": task.geometry.actions,
        "low": task.low.tolist(),
        "high": task.high.tolist(),
        "horizon": task.horizon,
        **({"cos_sin": [[circle.cos, circle.sin, circle.velocity] for circle in circles]} if circles else {}),
    }


def check_remade(env_id: str, path: Any) -> None:
    """Refuse to load without an environment what was trained on an object that has no id.

    Raises
    ------
    CheckpointError
    """
    if env_id.startswith(UNREGISTERED):
        name = env_id.removeprefix(UNREGISTERED)
        raise CheckpointError(f"checkpoint {str(path)!r} is of {name}, which no id can make again: pass env=")


def check_same(here: dict[str, Any], saved: dict[str, Any], path: Any) -> None:
    """Compare two descriptions.

    Raises
    ------
    CheckpointError
        Naming what differs.
    """
    for name, value in here.items():
        theirs = saved.get(name)
        if name == "env_id":  # "module:id", "unregistered:id" and "id" are the same environment
            value, theirs = str(value).rpartition(":")[2], str(theirs).rpartition(":")[2]
        if value != theirs:
            raise CheckpointError(
                f"checkpoint {str(path)!r} is of another environment: its {name} is {theirs!r}, here {value!r}"
            )


def _is_plain(kwargs: dict[str, Any]) -> bool:
    try:
        return json.loads(json.dumps(kwargs)) == kwargs
    except (TypeError, ValueError):
        return False
