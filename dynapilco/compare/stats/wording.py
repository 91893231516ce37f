"""Numbers and names as the sentences write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NOT_SIMULATED, ONE_SEED = "not simulated", "no interval from one seed"
NAMES = {
    "normalised": "normalised score",
    "score": "score",
    "success_rate": "success rate",
    "coverage_95_one_step": "coverage of the model's 95 % intervals one step ahead",
    "coverage_95_horizon": "coverage of the model's 95 % intervals over the imagined trial",
    "wall_seconds": "wall-clock seconds a run",
}


def bounds(row: dict, *, first: bool = True) -> str:
    """``95 % interval 0.85 to 0.95, 10 seeds``."""
    seeds = f"{row['seeds']} seed{'' if row['seeds'] == 1 else 's'}"
    if not np.isfinite(row["low"]):
        return f"no interval, {seeds}"
    if row["low"] == row["high"]:
        return f"all that count are equal: no interval, {seeds}"
    return f"{'95 % interval ' if first else ''}{number(row['low'])} to {number(row['high'])}, {seeds}"


def number(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    value = float(value)
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:.{digits}f}" if value else "0"


def p_value(p: float) -> str:
    """Two significant digits."""
    return f"{p:.2g}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def simulated(notes: Sequence[str]) -> str:
    """How often intervals like these hold the truth, as the end of a sentence; notes as ``coverage_note`` writes."""
    known = sorted(set(notes) - {NOT_SIMULATED, ONE_SEED})
    if not known:
        return (
            "" if ONE_SEED in notes else "; how often such intervals hold the truth at so few seeds was not simulated"
        )
    rest = ", at the fewest seeds of these it was not simulated" if NOT_SIMULATED in notes else ""
    return f"; in simulation such intervals hold the truth in {' or '.join(known)} of cases{rest}"
