"""Compare methods over seeds and tasks: independent, resumable jobs, tidy tables, one command.

>>> from dynapilco import compare
>>> result = compare.run("dynapilco/PendulumSwingUp-v0", ["ensemble", "swag"], seeds=10)  # doctest: +SKIP
>>> runs, trials = compare.load("runs/compare")  # doctest: +SKIP
>>> compare.statistics(runs, trials).sentences  # doctest: +SKIP
>>> compare.report("runs/compare")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from dynapilco.compare.comparison import Comparison, run
    from dynapilco.compare.inferred import infer
    from dynapilco.compare.stats import Statistics, aggregate_scores, statistics
    from dynapilco.compare.tables import load, save

__all__ = ["Comparison", "Statistics", "aggregate_scores", "infer", "load", "report", "run", "save", "statistics"]

_HOMES = {"run": "compare.comparison", "Comparison": "compare.comparison", "infer": "compare.inferred"}
_HOMES |= dict.fromkeys(("Statistics", "aggregate_scores", "statistics"), "compare.stats")
_HOMES |= dict.fromkeys(("load", "save"), "compare.tables")


def report(folder: "str | Path", out: "str | Path | None" = None, force: bool = False) -> "Path":
    """Write the HTML report of a comparison, and its figures: :func:`dynapilco.report.write`.

    It lives in a room above this one, which nothing here builds on; users look for it here.
    """
    return import_module("dynapilco.report").write(folder, out, force)


def __getattr__(name: str) -> Any:  # a worker imports this package, and should not wait for pandas and torch
    if name in _HOMES:
        return getattr(import_module(f"dynapilco.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
