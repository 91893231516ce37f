"""Code of the user's own that the command line should know: inference methods, priors, environments."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import entry_points

from dynapilco.core.errors import UserError

VARIABLE = "DYNAPILCO_PLUGINS"
GROUP = "dynapilco.plugins"


def load_plugins() -> None:
    """Import the modules that ``$DYNAPILCO_PLUGINS`` names, and the entry points of installed packages.

    Raises
    ------
    UserError
        For a module that cannot be imported, with the reason.
    """
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    if names and "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a script's path begins at its own folder, not where the user stands
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(
                f"{VARIABLE}={os.environ[VARIABLE]!r}: cannot import {name!r} ({error}); expected names of modules "
                "that can be imported from here, with commas between them"
            ) from error
    for point in entry_points(group=GROUP):
        point.load()
