"""What an environment says about itself by its attributes, and which of them are meant for us.

Words that others use for things of their own (``reward``, ``margin``, ``success``, ``dt``, ``gauges``, ``horizon``) are
left alone where they are of another kind: a value where a function is expected, a function where a value is, a function
of other arguments. One warning says so. All other words are ours alone, and every value of the right kind is taken at
its word: what cannot be meant is refused by ``dynapilco.tasks.checks``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from numbers import Number
from typing import Any

from dynapilco.core.errors import UserError
from dynapilco.tasks.make import one_line

ARGUMENTS = {
    "reward": ("state", "action", "next_state", "xp"),
    "margin": ("state", "action", "next_state", "xp"),
    "success": ("states", "xp"),
}
COMMON_VALUES = ("dt", "horizon")
COMMON = (*ARGUMENTS, *COMMON_VALUES, "gauges")
"""Words that others use, too."""


def own_attributes(base: Any, names: Iterable[str]) -> dict[str, Any]:
    """What is meant for us among the attributes ``names`` of an unwrapped environment; None says nothing.

    Raises
    ------
    UserError
        For a word of ours that raises when it is read.
    """
    found = {name: value for name in names if (value := _read(base, name)) is not None}
    return {name: value for name, value in found.items() if is_ours(base, name, value)}


def _read(base: Any, name: str) -> Any:
    try:
        return getattr(base, name, None)
    except Exception as error:  # whatever somebody's property raises
        reason = f"{type(error).__name__}: {one_line(error)}"
        if name not in COMMON:
            raise UserError(f"environment {type(base).__name__!r}: reading its {name} raised {reason}") from error
        _leave(base, name, f"raises {reason} when it is read")
        return None


def is_ours(base: Any, name: str, value: Any) -> bool:
    """Whether an attribute is meant for us; one warning where it is not."""
    if name in ARGUMENTS:
        return _is_our_function(base, name, value)
    if name in COMMON_VALUES and callable(value):
        _leave(base, name, "is a function, and a value would be expected")
        return False
    if name == "gauges" and not _maps_to_functions(value):
        _leave(base, name, f"is {type(value).__name__}, and a mapping of names to functions would be expected")
        return False
    return True


def _is_our_function(base: Any, name: str, value: Any) -> bool:
    if not callable(value):
        if name != "reward" or isinstance(value, bool) or not isinstance(value, Number):  # many keep the last one there
            _leave(base, name, f"is {type(value).__name__}, and a function of {_listed(name)} would be expected")
        return False
    if takes(value, len(ARGUMENTS[name])):
        return True
    _leave(base, name, f"takes other arguments than {_listed(name)}")
    return False


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many positional arguments, as far as it tells."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # one of C that does not tell
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _maps_to_functions(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(callable, value.values()))


def _listed(name: str) -> str:
    return f"({', '.join(ARGUMENTS[name])})"


def _leave(base: Any, name: str, why: str) -> None:
    warnings.warn(
        f"{type(base).__name__}.{name} {why}: it is taken for something of the environment's own and not used",
        stacklevel=5,
    )
