"""The errors a user can cause, and the sentence that explains each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: the message names the argument, the value it got and what was expected.

    The command line prints the message on one line and exits with 2; Python users see a ``ValueError``.
    """


class CheckpointError(UserError):
    """A checkpoint that is missing, truncated, of another format version or of another environment."""


class EnvironmentFault(UserError):
    """An environment that raised, or gave what it must not give; the message names the step and the values."""


class FunctionFault(UserError):
    """A function of the user's (reward, margin, success) that raises or gives what it must not on real data."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """Build the error for an unknown name, listing the nearest valid ones first.

    Parameters
    ----------
    kind : str
        What the name stands for, e.g. ``"inference method"``.
    name : object
        What the user wrote.
    valid : iterable of str
        All names that would have been understood.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError(f"unknown {kind} {name!r}: {hint}valid names are {', '.join(names)}")
