"""Anchors: two scores of a task that make scores of different tasks comparable, 0 and 1 of the normalised score.

normalised = (score - low) / (high - low). 0 is what independent, uniformly random actions earn in a trial (mean return
of 1,000 episodes, ``experiments/anchors.py``). 1 is a mark that somebody else set: Gymnasium's ``reward_threshold``; of
dynapilco's own tasks, which have none, the best mean return of 20 fresh episodes that any agent is known to have
reached (docs/results). It is no bound: scores above 1 are kept. A task without anchors is never put together with
others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynapilco.core.errors import UserError


@dataclass(frozen=True)
class Anchors:
    """The score that counts 0, the one that counts 1, and what the second one is."""

    low: float
    high: float
    source: str = "given"


BEST, THRESHOLD = "best known", "Gymnasium's threshold"
DOCUMENTED: dict[str, Anchors] = {
    "dynapilco/CartPoleSwingUp-v0": Anchors(15.2, 53.1, BEST),
    "dynapilco/CartPoleSwingUpPILCO-v0": Anchors(0.26, 33.5, BEST),
    "dynapilco/PendulumSwingUp-v0": Anchors(0.02, 24.7, BEST),
    "Acrobot-v1": Anchors(-499.1, -100.0, THRESHOLD),
    "CartPole-v1": Anchors(22.2, 475.0, THRESHOLD),
    "InvertedPendulum-v5": Anchors(5.1, 950.0, THRESHOLD),
    "MountainCarContinuous-v0": Anchors(-33.3, 90.0, THRESHOLD),
}
Given = Mapping[str, Sequence[float]]
"""Task -> (low, high)."""


def check_anchors(given: Mapping[str, Any]) -> dict[str, Anchors]:
    """Anchors that a user gave.

    Raises
    ------
    UserError
        Unless each is two finite numbers, the first below the second.
    """
    found = {}
    for task, pair in given.items():
        try:
            low, high = (float(value) for value in pair)
        except (TypeError, ValueError):
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(f"anchors[{task!r}]={pair!r}: expected the score that counts 0 and a larger one, for 1")
        found[task] = Anchors(low, high)
    return found


def anchors_of(tasks: Sequence[str], given: Given | None = None) -> dict[str, Anchors]:
    """The anchors of those tasks that have some; a user's count before the documented ones."""
    known = DOCUMENTED | check_anchors(given or {})
    # an id may name the module that registers it
    found = {task: known.get(task, known.get(task.rpartition(":")[2])) for task in tasks}
    return {task: pair for task, pair in found.items() if pair is not None}


def sentence(anchors: Mapping[str, Anchors]) -> str:
    """What the normalised score means, in words."""
    words = [f"{task} 0 = {pair.low:g}, 1 = {pair.high:g} ({pair.source})" for task, pair in anchors.items()]
    return (
        "Normalised score: 0 is a low anchor (uniformly random actions, unless given), 1 a high one; it is not cut "
        f"off: {'; '.join(words)}."
    )
