"""Methods that are more than an inference method's name: the same with other options, or another controller."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dynapilco.compare.algorithms import ACTION_SPACES
from dynapilco.core.errors import UserError, unknown_name
from dynapilco.inference import METHODS

SAME_FOR_ALL = ("env_id", "env_kwargs", "seed", "total_timesteps", "compare")
"""What a variant may not change: methods are compared on the same task and the same budget."""
IN_MODEL = "-in-model"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def check_variants(given: Mapping[str, Any], imagined: Sequence[str], first: str) -> dict[str, dict[str, Any]]:
    """Variants by name, each with its inference method.

    Parameters
    ----------
    given : mapping
        Name -> settings of a run that differ.
    imagined : sequence of str
        Algorithms of stable-baselines3, each a variant that is trained inside the model.
    first : str
        Inference method of variants that name none.

    Raises
    ------
    UserError
        For a name that is no name of a folder or another method's, and for settings that all methods share.
    """
    found: dict[str, dict[str, Any]] = {}
    for algorithm in imagined:
        if algorithm not in ACTION_SPACES:
            raise unknown_name("algorithm", algorithm, ACTION_SPACES)
        if f"{algorithm}{IN_MODEL}" in found:
            raise UserError(f"imagined: {algorithm} given twice")
        found[f"{algorithm}{IN_MODEL}"] = {"inference": first, "controller": algorithm}
    for name, values in given.items():
        _check_name(name)
        if name in found:
            raise UserError(f"variants.{name}: another method has that name")
        if not isinstance(values, Mapping):
            raise UserError(f"variants.{name}={values!r}: expected a table of settings")
        shared = [key for key in SAME_FOR_ALL if key in values]
        if shared:
            raise UserError(f"variants.{name}.{shared[0]}: it must be the same for all methods of a comparison")
        if not isinstance(values.get("inference_kwargs", {}), Mapping):
            raise UserError(f"variants.{name}.inference_kwargs={values['inference_kwargs']!r}: expected a table")
        found[name] = {"inference": first, **values}
    return found


def _check_name(name: str) -> None:
    """A variant's name is a folder's, and a method's in every table."""
    taken = {*METHODS, *ACTION_SPACES} | {alias for method in METHODS for alias in METHODS.aliases_of(method)}
    if not _NAME.fullmatch(name) or "@" in name:
        raise UserError(f"variants.{name}: expected a name of letters, digits, '_', '.', '+' and '-'")
    if name in taken:
        raise UserError(f"variants.{name}: {name} is a method of its own: expected another name, such as {name}-mine")
