"""Compare methods over seeds and tasks: independent, resumable jobs, tidy tables, one command.

>>> from dynapilco import compare
>>> runs, trials = compare.load("runs/compare")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynapilco.compare.comparison import Comparison, run
    from dynapilco.compare.tables import load

__all__ = ["Comparison", "load", "run"]

_HOMES = {"run": "comparison", "Comparison": "comparison", "load": "tables"}


def __getattr__(name: str) -> Any:  # a worker imports this package, and should not wait for pandas and torch
    if name in _HOMES:
        return getattr(import_module(f"dynapilco.compare.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
