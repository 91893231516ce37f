"""Numbers in words."""

from __future__ import annotations

import math


def num(value: float | None, digits: int = 4, keep_zeros: bool = False) -> str:
    """A number with so many significant digits; a dash for none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.{digits - 1}e}".replace("-", "−")
    decimals = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
    text = f"{value:,.{min(decimals, 6)}f}"
    if "." in text and not keep_zeros:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def percent(share: float | None, digits: int = 0) -> str:
    """``0.5`` as ``50 %``."""
    if share is None:
        return "–"
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else "not finite"


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None:
        return "–"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (math.inf, 3600, "h")):
        if value < limit:
            return f"{num(value / size, 3)} {unit}"
    return "not finite"


def yes_no(value: bool | None) -> str:
    """``yes``, ``no``, or a dash where it has no meaning."""
    return "–" if value is None else "yes" if value else "no"


def plural(count: int, noun: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
