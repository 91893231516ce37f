"""The intervals that the command line prints (from the core), and counts as text."""

from __future__ import annotations

from collections.abc import Sequence

from dynapilco.core.intervals import mean_interval, wilson_interval

__all__ = ["count_successes", "mean_interval", "wilson_interval"]


def count_successes(successes: Sequence[bool]) -> str:
    """``18/20``."""
    return f"{sum(map(bool, successes))}/{len(successes)}"
