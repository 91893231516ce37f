"""The type of a table inside this package."""

from typing import Any

Table = Any
"""A ``pandas.DataFrame``. pandas' own annotations make a union of every selection, which a checker cannot follow."""
