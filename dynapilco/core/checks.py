"""Checks that the dataclasses of settings share, for their ``__post_init__``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.core.typed import convert, hints_of


class Checks:
    """Checks the fields of one frozen dataclass; all types first, so that numbers can be compared.

    Values become what their types say (a whole number where a number is expected a float, a list a tuple), so that a
    dataclass made in Python equals one that was read from a file.

    Parameters
    ----------
    settings : dataclass instance
    section : str
        Its name in messages, as files and the command line have it: ``"search"`` gives ``search.steps``; none for
        settings at the top.

    Raises
    ------
    UserError
        Also in all methods: the name, the value, and what was expected.
    """

    def __init__(self, settings: Any, section: str = "") -> None:
        self.settings, self.prefix = settings, f"{section}." if section else ""
        hints = hints_of(type(settings))
        for field in fields(settings):
            value = convert(getattr(settings, field.name), hints[field.name], self.prefix + field.name)
            object.__setattr__(settings, field.name, value)

    def refuse(self, name: str, expected: str) -> UserError:
        """The error for a field."""
        return UserError(f"{self.prefix}{name}={getattr(self.settings, name)!r}: expected {expected}")

    def at_least(self, least: int, *names: str, words: str = "") -> None:
        """Whole numbers from ``least`` on."""
        for name in names:
            if getattr(self.settings, name) < least:
                raise self.refuse(name, words or f"at least {least}")

    def number(self, least: float, *names: str) -> None:
        """Finite numbers from ``least`` on."""
        self._interval(names, f"a finite number of {least:g} or more", lambda value: least <= value < math.inf)

    def above_zero(self, *names: str) -> None:
        """Finite numbers above 0."""
        self._interval(names, "a finite number above 0", lambda value: 0 < value < math.inf)

    def share(self, *names: str, zero: bool = False, one: bool = True) -> None:
        """Numbers between 0 and 1; the ends count as they are told to."""
        words = f"a share in {'[' if zero else '('}0, 1{']' if one else ')'}"
        self._interval(names, words, lambda v: 0 < v < 1 or (zero and v == 0) or (one and v == 1))

    def word(self, name: str, valid: Iterable[str], kind: str = "") -> None:
        """One of some words."""
        if getattr(self.settings, name) not in valid:
            raise unknown_name(kind or self.prefix + name, getattr(self.settings, name), valid)

    def _interval(self, names: Iterable[str], words: str, holds: Any) -> None:
        for name in names:
            if not holds(getattr(self.settings, name)):
                raise self.refuse(name, words)
