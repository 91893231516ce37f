"""When a chain searches, burns in, moves by how much, and keeps a sample: all from the length of the fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from dynapilco.core.errors import UserError
from dynapilco.inference.method import require_at_least, require_one_of, require_positive

KINDS = ("constant", "polynomial", "cyclical")


@dataclass(frozen=True)
class Schedule:
    """How the step size goes over the K moves of a chain, as a factor on its first value.

        constant     1
        polynomial   (1 + t / b)^-gamma = a (b + t)^-gamma with a = b^gamma, b = offset K    (Welling & Teh 2011)
        cyclical     1/2 [cos(pi mod(t, C) / C) + 1] with C = ceil(K / cycles)                (Zhang et al. 2020)

    With cycles, only the last ``sampling`` part of each is sampled; before that the chain moves without noise.

    Attributes
    ----------
    kind : str
    gamma : float
        In (1/2, 1].
    offset : float
        b as a share of the moves, above 0.
    cycles : int
    sampling : float
        In (0, 1].
    """

    kind: str = "constant"
    gamma: float = 0.55
    offset: float = 0.1
    cycles: int = 4
    sampling: float = 0.2

    def __post_init__(self) -> None:
        require_one_of(self, "kind", KINDS)
        require_at_least(self, 1, "cycles")
        require_positive(self, "offset")
        for name, low in (("gamma", 0.5), ("sampling", 0.0)):
            if not low < getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)!r}: expected a number in ({low:g}, 1]")

    def rate(self, move: int, moves: int) -> float:
        """Factor on the step size at move number ``move`` of ``moves``."""
        if self.kind == "polynomial":
            return (1 + move / (self.offset * moves)) ** -self.gamma
        if self.kind == "cyclical":
            return 0.5 * (math.cos(math.pi * self._place(move, moves)) + 1)
        return 1.0

    def noisy(self, move: int, moves: int) -> bool:
        """Whether this move samples (cyclical: the last part of a cycle) or descends."""
        return self.kind != "cyclical" or self._place(move, moves) >= 1 - self.sampling

    def burn(self, moves: int, fraction: float) -> int:
        """Moves before the first one that may be kept."""
        if self.kind == "cyclical":
            return next((t for t in range(moves) if self.noisy(t, moves)), 0)
        return min(math.floor(fraction * moves), moves - 1)

    def _place(self, move: int, moves: int) -> float:
        cycle = math.ceil(moves / self.cycles)
        return move % cycle / cycle


@dataclass(frozen=True)
class ChainPlan:
    """What each update of a fit is for.

    Attributes
    ----------
    search : int
        Updates of Adam before the chain starts.
    moves : int
        Moves of the chain after that.
    burn : int
        Moves whose samples are not kept and in which adaptation happens.
    slots : tuple of int
        Where the sample after each move is stored; -1 for nowhere. Samples are equally far apart in the sum of step
        sizes, which is the time that the process simulates.
    """

    search: int
    moves: int
    burn: int
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Moment:
    """Which move this is: ``number`` of ``plan.moves``, counted from 0."""

    number: int
    plan: ChainPlan

    @property
    def burning(self) -> bool:
        """Whether this move still belongs to burn-in."""
        return self.number < self.plan.burn

    @property
    def fraction(self) -> float:
        """Share of burn-in that lies behind this move; 1 after it."""
        return min(1.0, self.number / self.plan.burn) if self.plan.burn else 1.0


@lru_cache(maxsize=32)
def make_plan(steps: int, search: float, burn_in: float, keep: int, schedule: Schedule) -> ChainPlan:
    """The plan of a fit of ``steps`` updates, of which the share ``search`` is spent on the search for a start."""
    first = min(math.floor(search * steps), steps - 1)
    moves = steps - first
    burn = schedule.burn(moves, burn_in)
    weights = [schedule.rate(t, moves) if t >= burn and schedule.noisy(t, moves) else 0.0 for t in range(moves)]
    return ChainPlan(first, moves, burn, _slots(weights, keep))


def _slots(weights: list[float], keep: int) -> tuple[int, ...]:
    wanted = min(keep, sum(w > 0 for w in weights))
    total, passed, slots = sum(weights), 0.0, []
    stored = 0
    for weight in weights:
        passed += weight
        due = weight > 0 and stored < wanted and passed >= (stored + 1) / wanted * total * (1 - 1e-9)
        slots.append(stored if due else -1)
        stored += due
    return tuple(slots)
