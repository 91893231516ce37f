"""Dataclasses of settings: every type checked, whether values come from a file, the command line or Python."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dynapilco.core.errors import UserError, unknown_name

EXPECTED = {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "a table"}


def build(cls: type, values: Mapping[str, Any], where: str, kind: str = "setting") -> Any:
    """A dataclass of plain values.

    Parameters
    ----------
    cls : type
    values : mapping
    where : str
        Prefix of the names in messages, e.g. ``"search."``.
    kind : str
        What the names stand for.

    Raises
    ------
    UserError
        For an unknown name, a wrong type, or a value that the dataclass refuses.
    """
    hints = hints_of(cls)
    valid = [f.name for f in fields(cls) if f.init]
    for key in values:
        if key in valid:
            continue
        if not valid:
            raise UserError(f"unknown {kind} {key!r}: there are none")
        raise unknown_name(kind, f"{where}{key}", [where + name for name in valid])
    return cls(**{key: convert(value, hints[key], where + key) for key, value in values.items()})


@cache
def hints_of(cls: type) -> dict[str, Any]:
    """The type of each field."""
    return get_type_hints(cls)


def convert(value: Any, hint: Any, where: str) -> Any:
    """The value as its type says: whole numbers are numbers too, lists are tuples, tables are dataclasses.

    Raises
    ------
    UserError
        Naming ``where``, the value and what was expected.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, args, where)
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        return build(hint, _expect(value, dict, where), f"{where}.")
    if origin is tuple:
        return _convert_tuple(value, args, where)
    if origin is Literal:
        if value not in args:
            raise unknown_name(where, value, map(str, args))
        return value
    kind = origin or hint
    return _expect(value, kind, where) if isinstance(kind, type) and kind in EXPECTED else value


def _convert_union(value: Any, args: tuple[Any, ...], where: str) -> Any:
    if value is None and types.NoneType in args:
        return None
    some = [arg for arg in args if arg is not types.NoneType]
    for arg in some[:-1]:
        try:
            return convert(value, arg, where)
        except UserError:
            continue
    return convert(value, some[-1], where)


def _convert_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    each = args[:1] * len(value) if isinstance(value, list | tuple) and args[1:] == (...,) else args
    if not isinstance(value, list | tuple) or len(value) != len(each):
        item = EXPECTED.get(args[0], "a value").split()[-1] + "s"
        raise UserError(f"{where}={value!r}: expected a list of {item}")
    return tuple(convert(v, arg, f"{where}[{i}]") for i, (v, arg) in enumerate(zip(value, each, strict=True)))


def _expect(value: Any, kind: type, where: str) -> Any:
    """Give back ``value`` if it is of that kind; an integer is a number too, but a truth value is neither."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where}={value!r}: expected {EXPECTED[kind]}")
    return value
