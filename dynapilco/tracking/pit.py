"""Histograms of probability integral transforms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynapilco.tracking.sink import Pit

BINS = 20


def pit_counts(pit: Pit) -> list[int]:
    """Counts over all outputs in ``BINS`` equal bins of [0, 1]; what is not finite is left out."""
    return np.histogram(pit.values[np.isfinite(pit.values)], BINS, (0, 1))[0].tolist()


def pit_of_counts(counts: Sequence[int]) -> Pit:
    """Values in the middle of their bins that give the same counts, (n, 1)."""
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    return Pit(np.repeat(middles, counts)[:, None], ("all outputs",))
