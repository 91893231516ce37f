"""Functions that a user handed over: a checkpoint names them, and does not hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynapilco.core.errors import CheckpointError
from dynapilco.tasks import StepFunction

FIELD = "functions"


def given_functions(**functions: StepFunction | None) -> dict[str, StepFunction]:
    """Those that are there, by their keyword."""
    return {name: function for name, function in functions.items() if function is not None}


def describe_functions(functions: Mapping[str, StepFunction]) -> dict[str, list[str]]:
    """What a checkpoint says about them; nothing where there are none."""
    return {FIELD: sorted(functions)} if functions else {}


def check_functions(functions: Mapping[str, StepFunction], saved: Mapping[str, Any], path: Any) -> None:
    """Refuse to load with other functions than those that were there at training.

    Raises
    ------
    CheckpointError
        Naming the keywords that are missing or too many.
    """
    had = set(saved.get(FIELD, ()))
    missing, extra = sorted(had - set(functions)), sorted(set(functions) - had)
    if missing:
        words = " and ".join(f"{name}=" for name in missing)
        raise CheckpointError(
            f"checkpoint {str(path)!r} is of an agent with {words} handed over as a function, which no file holds: "
            f"pass the same to load, e.g. DynaPILCO.load(path, {missing[0]}=function)"
        )
    if extra:
        words = " and ".join(f"{name}=" for name in extra)
        raise CheckpointError(f"checkpoint {str(path)!r} is of an agent without {words}: expected to be loaded without")
