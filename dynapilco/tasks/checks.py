"""What is said about an environment, checked before anything is done with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.tasks.contract import shown
from dynapilco.tasks.flat import ENDED, REWARD
from dynapilco.tasks.known import Known
from dynapilco.tasks.make import one_line


def checked(name: str, known: Known, size: int, actions: int) -> Known:
    """The same with plain Python values, for an environment ``name`` of so many observation and action columns.

    Raises
    ------
    UserError
        Naming the environment, the attribute, its value and what is expected.
    """
    angles = _whole_numbers(name, "angle_indices", known.angle_indices, size)
    pairs = _pairs(name, known.position_velocity_pairs, size)
    labels = {"state_names": size, "state_units": size, "action_names": actions, "action_units": actions}
    return replace(
        known,
        dt=None if known.dt is None else _seconds(name, known.dt),
        angle_indices=angles,
        position_velocity_pairs=pairs,
        gauges=_gauges(name, known.gauges),
        **{label: _texts(name, label, getattr(known, label), count) for label, count in labels.items()},
    )


def refusal(name: str, attribute: str, value: Any, expected: str) -> UserError:
    """The error for an attribute that cannot be meant."""
    return UserError(f"environment {name!r}: {attribute}={shown(value)}: expected {expected}")


def whole(name: str, attribute: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``.

    Raises
    ------
    UserError
    """
    plain = _scalar(value)
    if not isinstance(plain, Integral) or isinstance(plain, bool | np.bool_) or int(plain) < least:
        raise refusal(name, attribute, value, f"a whole number of at least {least}")
    return int(plain)


def numbers(name: str, attribute: str, value: Any) -> np.ndarray:
    """Finite numbers, float64.

    Raises
    ------
    UserError
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:  # rows of several lengths
        raise refusal(name, attribute, value, "an array of finite numbers") from error
    plain = np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    if not plain or not np.isfinite(array).all():
        raise refusal(name, attribute, value, "finite numbers")
    return array.astype(np.float64)


def _scalar(value: Any) -> Any:
    """The number of an array without axes."""
    return value[()] if isinstance(value, np.ndarray) and value.shape == () else value


def _seconds(name: str, value: Any) -> float:
    plain = _scalar(value)
    good = isinstance(plain, Real) and not isinstance(plain, bool | np.bool_) and 0 < float(plain) < math.inf
    if not good:
        raise refusal(name, "dt", value, "the seconds of a step, a finite number above 0")
    return float(plain)


def _entries(name: str, attribute: str, value: Any, expected: str) -> list[Any]:
    """Those of a sequence or an array."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value)
    raise refusal(name, attribute, value, expected)


def _is_column(value: Any, size: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_) and 0 <= int(value) < size


def _whole_numbers(name: str, attribute: str, value: Any, size: int) -> tuple[int, ...]:
    expected = f"columns of the observation, different whole numbers from 0 to {size - 1}"
    entries = _entries(name, attribute, value, expected)
    if not all(_is_column(entry, size) for entry in entries) or len(set(entries)) != len(entries):
        raise refusal(name, attribute, value, expected)
    return tuple(int(entry) for entry in entries)


def _pairs(name: str, value: Any, size: int) -> tuple[tuple[int, int], ...]:
    expected = (
        f"pairs (position column, velocity column) of whole numbers from 0 to {size - 1}, each column in one of them"
    )
    attribute = "position_velocity_pairs"
    rows = [_entries(name, attribute, row, expected) for row in _entries(name, attribute, value, expected)]
    columns = [column for row in rows for column in row]
    good = all(len(row) == 2 for row in rows) and all(_is_column(column, size) for column in columns)
    if not good or len(set(columns)) != len(columns):
        raise refusal(name, attribute, value, expected)
    return tuple((int(position), int(velocity)) for position, velocity in rows)


def _texts(name: str, attribute: str, value: Any, count: int) -> tuple[str, ...] | None:
    if value is None:
        return None
    expected = f"{count} texts"
    entries = _entries(name, attribute, value, expected)
    if len(entries) != count or not all(isinstance(entry, str) for entry in entries):
        raise refusal(name, attribute, value, expected)
    return tuple(str(entry) for entry in entries)


def _gauges(name: str, value: Any) -> Mapping[str, Any]:
    good = isinstance(value, Mapping) and all(isinstance(key, str) and callable(f) for key, f in value.items())
    if not good or {REWARD, ENDED} & set(value):
        expected = f"a mapping of names (other than {REWARD!r} and {ENDED!r}) to functions of the environment"
        raise refusal(name, "gauges", value, expected)
    return value


# -- functions --------------------------------------------------------------------------------------------------------


def check_step_function(name: str, title: str, function: Any, states: int, actions: int) -> None:
    """Run a function of a step once on torch tensors, as imagination will.

    Raises
    ------
    UserError
    """
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


def check_success(name: str, function: Any, steps: int, size: int) -> None:
    """Run a success rule once, on a trial (steps + 1, size) of zeros.

    Raises
    ------
    UserError
    """
    wanted = "expected a method success(states, xp) that says True or False"
    if not callable(function):
        raise UserError(f"environment {name!r}: success={function!r}: {wanted}")
    try:
        with np.errstate(all="ignore"):
            value = function(np.zeros((steps + 1, size)), np)
    except Exception as error:  # whatever somebody's function raises
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(
            f"environment {name!r}: its success fails on states ({steps + 1}, {size}) ({reason}): {wanted}"
        ) from error
    if not says_yes_or_no(value):
        raise UserError(f"environment {name!r}: its success gives {shown(value)}: {wanted}")


def says_yes_or_no(value: Any) -> bool:
    """Whether a value is one truth value, also as an array of it, or as 0 or 1."""
    array = np.asarray(value)
    return array.size == 1 and array.dtype.kind in "biuf" and array.reshape(-1)[0] in (0, 1)
