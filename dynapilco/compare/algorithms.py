"""The model-free algorithms of stable-baselines3: their names, and what they can act in."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from dynapilco.core.errors import UserError, unknown_name

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

ALL = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete)
ACTION_SPACES: dict[str, tuple[type[spaces.Space], ...]] = {
    "sac": (spaces.Box,),
    "td3": (spaces.Box,),
    "ddpg": (spaces.Box,),
    "dqn": (spaces.Discrete,),
    "ppo": ALL,
    "a2c": ALL,
}
OURS = ("policy", "env", "seed", "device", "verbose", "tensorboard_log")
"""Arguments that the comparison itself sets."""


def check_algorithm(name: str, space: spaces.Space, task: str) -> None:
    """Refuse a name that is not known, and an algorithm that cannot act in a task.

    Raises
    ------
    UserError
    """
    if name not in ACTION_SPACES:
        raise unknown_name("baseline", name, ACTION_SPACES)
    if not isinstance(space, ACTION_SPACES[name]):
        able = [other for other, known in ACTION_SPACES.items() if isinstance(space, known)]
        raise UserError(f"baseline {name!r} cannot act in {task!r}, with actions {space}: expected {', '.join(able)}")


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """The class, e.g. ``SAC``."""
    return getattr(import_module("stable_baselines3"), name.upper())


def check_options(name: str, options: Any) -> dict[str, Any]:
    """Options of an algorithm's constructor, by name.

    Raises
    ------
    UserError
        For one that it does not have, or that the comparison sets.
    """
    if not isinstance(options, Mapping):
        raise UserError(f"baseline_kwargs.{name}={options!r}: expected a table")
    if not options:
        return {}
    valid = [word for word in inspect.signature(algorithm_class(name).__init__).parameters if word[:1] != "_"]
    valid = [word for word in valid if word not in (*OURS, "self")]
    for word in options:
        if word not in valid:
            raise unknown_name(f"{name} option", word, valid)
    return dict(options)
