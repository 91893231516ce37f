"""What the network sees and what it predicts: angles, normalisation, and how an output moves the state.

The *features* of a state x (D columns, A of them angles) and an action u (M columns) are

    z = [x, sin(x[angles]), cos(x[angles]), u]          (D + 2A + M columns)

Everything after that is linear, hence can be folded into the first and last weights of a network: choosing columns (raw
angles are dropped), normalising them, scaling the outputs y, and stepping

    x' = x @ transition + y @ effect + u @ carry,

kept within bounds where a model would otherwise leave all that it knows.

A state may remember: columns that hold an earlier value of another column, or of an action. They move by themselves, as
the transition and the carry say, and no output is about them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.dynamics.transitions import Transitions


@dataclass(frozen=True)
class Geometry:
    """Which columns mean what.

    Attributes
    ----------
    states, actions : int
        D and M.
    angles : tuple of int
        State columns in radians.
    pairs : tuple of (int, int)
        (position column, velocity column).
    dt : float or None
        Seconds a step, needed to integrate positions.
    unseen : tuple of int
        State columns that say something about the last step alone, as a learned reward does: they are predicted, and
        no network sees them.
    binary : tuple of int
        Those of the unseen that answer yes or no, as the end of an episode does: 0 or 1 in states that were recorded,
        in states that the model made the logit of yes.
    choices : tuple of int
        Sizes of the groups of action columns that are one-hot choices, as of a Discrete action space; none for boxes.
    past : tuple of (int, int)
        (state column, the state column whose value one step ago it holds).
    past_actions : tuple of (int, int)
        (state column, the action column whose last value it holds).
    bounds : tuple of (float, float)
        Lowest and highest value of each state column as the environment states them, infinite where it does not; ()
        where it states none.
    """

    states: int
    actions: int
    angles: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    dt: float | None = None
    unseen: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()
    past: tuple[tuple[int, int], ...] = ()
    past_actions: tuple[tuple[int, int], ...] = ()
    bounds: tuple[tuple[float, float], ...] = ()
    binary: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        columns = [*self.angles, *(c for pair in self.pairs for c in pair), *self.unseen]
        columns += [c for pair in self.past for c in pair] + [c for c, _ in self.past_actions]
        if any(not 0 <= c < self.states for c in columns):
            raise UserError(f"angles={self.angles}, pairs={self.pairs}: columns must lie in 0..{self.states - 1}")
        paired = [c for pair in self.pairs for c in pair]
        if set(self.unseen) & {*self.angles, *paired}:
            raise UserError(
                f"unseen={self.unseen}: these columns can be no angles {self.angles} nor pairs {self.pairs}"
            )
        if not set(self.binary) <= set(self.unseen):
            raise UserError(f"binary={self.binary}: expected some of unseen={self.unseen}")
        if self.choices and sum(self.choices) != self.actions:
            raise UserError(f"choices={self.choices!r}: expected sizes that add up to actions={self.actions}")
        if self.bounds and (len(self.bounds) != self.states or any(not low <= high for low, high in self.bounds)):
            raise UserError(f"bounds={self.bounds!r}: expected (lowest, highest) of each of {self.states} columns")
        if len(set(paired)) != len(paired):
            raise UserError(f"pairs={self.pairs}: a column can be in one (position, velocity) pair only")

    def features(self, x: Tensor) -> Tensor:
        """[x, sin, cos] of states (..., D) -> (..., D + 2A)."""
        if not self.angles:
            return x
        angle = torch.stack([x[..., c] for c in self.angles], -1)  # no index tensor, which would be sent to a GPU
        return torch.cat([x, angle.sin(), angle.cos()], dim=-1)

    @property
    def state_features(self) -> int:
        """D + 2A."""
        return self.states + 2 * len(self.angles)

    def kept(self, extra: int = 0) -> list[int]:
        """Feature columns that a network sees: all but raw angles and the unseen, and ``extra`` action columns."""
        return [c for c in range(self.state_features + extra) if c not in (*self.angles, *self.unseen)]

    @property
    def remembered(self) -> tuple[int, ...]:
        """State columns that hold what was."""
        return tuple(c for c, _ in (*self.past, *self.past_actions))

    @property
    def present(self) -> list[int]:
        """State columns that are about now: all but the remembered."""
        return [c for c in range(self.states) if c not in self.remembered]

    @property
    def lasting(self) -> list[int]:
        """State columns that say where the system is: all but the unseen and the remembered."""
        return [c for c in self.present if c not in self.unseen]

    @property
    def free(self) -> list[int]:
        """Lasting columns that nothing is known of: neither angles nor in a pair."""
        known = {*self.angles, *(c for pair in self.pairs for c in pair)}
        return [c for c in self.lasting if c not in known]

    def shown(self, states: Tensor) -> Tensor:
        """States (..., D) that the model made, with the probability of yes in place of its logit."""
        if not self.binary:
            return states
        shown, columns = states.clone(), list(self.binary)
        shown[..., columns] = states[..., columns].sigmoid()
        return shown

    def selection(self, extra: int = 0) -> Tensor:
        """Matrix (D + 2A + extra, kept) that picks those columns."""
        return torch.eye(self.state_features + extra)[:, self.kept(extra)]


@dataclass(frozen=True)
class Stepping:
    """How outputs y (O columns) move the state: x' = clamp(x @ transition + y @ effect + u @ carry, *bounds).

    Attributes
    ----------
    transition : Tensor
        (D, D).
    effect : Tensor
        (O, D).
    columns : tuple of int
        The state column that each output is about.
    carry : Tensor or None
        (M, D), into columns that no output is about; None where the state remembers no action.
    bounds : Tensor or None
        (2, D), lowest and highest values, infinite where there is none; None where no column has any.
    """

    transition: Tensor
    effect: Tensor
    columns: tuple[int, ...]
    carry: Tensor | None = None
    bounds: Tensor | None = None

    def to(self, device: torch.device) -> Stepping:
        """The same on ``device``."""
        carry = None if self.carry is None else self.carry.to(device)
        bounds = None if self.bounds is None else self.bounds.to(device)
        return Stepping(self.transition.to(device), self.effect.to(device), self.columns, carry, bounds)

    @property
    def outputs(self) -> int:
        """O."""
        return self.effect.shape[0]

    def targets(self, states: Tensor, next_states: Tensor) -> Tensor:
        """The outputs (N, O) that explain the observed change of their own columns, from states (N, D) to the next."""
        columns = list(self.columns)
        moved = (next_states - states @ self.transition)[:, columns]
        return torch.linalg.solve(self.effect[:, columns].T, moved.T).T

    def advance(self, x: Tensor, y: Tensor, u: Tensor | None = None) -> Tensor:
        """X' of states (..., D) and outputs (..., O); of actions (..., M) too where the state remembers them."""
        moved = x @ self.transition + y @ self.effect
        if self.carry is not None:
            assert u is not None
            moved = moved + u @ self.carry
        return moved if self.bounds is None else moved.clamp(*self.bounds)


def make_stepping(geometry: Geometry, targets: str) -> Stepping:
    """Build the stepping for a kind of target.

    Parameters
    ----------
    geometry : Geometry
    targets : str
        ``"delta"``: every column's change is an output. ``"velocity"``: outputs are the changes of all columns that
        are not positions; a position follows by the trapezoidal rule ``p' = p + dt v + dt/2 dv``. ``"corrected"``: the
        same, with one more output per position for what the rule misses. ``"auto"``: corrected where the geometry
        names pairs and ``dt``, else delta.
    """
    integrates = bool(geometry.pairs) and geometry.dt is not None
    kind = ("corrected" if integrates else "delta") if targets == "auto" else targets
    eye = torch.eye(geometry.states)
    stays = eye.clone()
    for c in (*geometry.unseen, *geometry.remembered):  # what is unseen is predicted itself, not its change
        stays[c, c] = 0.0
    for c, source in geometry.past:
        stays[source, c] = 1.0
    columns, carry = geometry.present, _carry(geometry)
    if kind == "delta":
        return Stepping(stays, eye[columns], tuple(columns), carry)
    if not integrates:
        raise UserError(f"targets={targets!r} needs an environment with position_velocity_pairs and dt")
    dt = float(geometry.dt or 0.0)
    transition, effect = stays, eye
    for position, velocity in geometry.pairs:
        transition[velocity, position] = dt
        effect[velocity, position] = dt / 2
    if kind == "velocity":
        positions = {p for p, _ in geometry.pairs}
        columns = [c for c in columns if c not in positions]
    return Stepping(transition, effect[columns], tuple(columns), carry)


def _carry(geometry: Geometry) -> Tensor | None:
    if not geometry.past_actions:
        return None
    carry = torch.zeros(geometry.actions, geometry.states)
    for c, action in geometry.past_actions:
        carry[action, c] = 1.0
    return carry


def visited_bounds(geometry: Geometry, data: Transitions, reach: float) -> Tensor | None:
    """Bounds (2, D) of imagined states, None where there are none.

    A column keeps to what the environment states, or to what was visited where that lies outside of it. Where it states
    nothing, a free column (:attr:`Geometry.free`) keeps to the range of the data, made ``reach`` times as wide: a
    network knows nothing beyond, and states that run away there feed on themselves. Columns that never change within a
    step, as a target that is drawn at reset, cannot run.

    Parameters
    ----------
    geometry : Geometry
    data : Transitions
    reach : float
        At least 1.
    """
    infinite = torch.full((geometry.states,), torch.inf, device=data.states.device)
    low, high = -infinite, infinite.clone()
    seen = torch.cat([data.states, data.next_states])
    lowest, highest = seen.amin(0), seen.amax(0)
    margin = (reach - 1) / 2 * (highest - lowest)
    moves = (data.next_states != data.states).any(0)
    if math.isfinite(reach):
        for c in geometry.free:
            if moves[c]:
                low[c], high[c] = lowest[c] - margin[c], highest[c] + margin[c]
    for c, (lower, upper) in enumerate(geometry.bounds):
        if math.isfinite(lower):
            low[c] = lowest[c].clamp_max(lower)  # what happened counts before what is stated
        if math.isfinite(upper):
            high[c] = highest[c].clamp_min(upper)
    bounds = torch.stack([low, high])
    return bounds if bool(torch.isfinite(bounds).any()) else None


@dataclass(frozen=True)
class Normaliser:
    """Affine map to unit scale, safe on constant columns.

    Attributes
    ----------
    mean, std : Tensor
        (columns,); std is 1 where a column does not vary.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of_inputs(cls, rows: Tensor) -> Normaliser:
        """Mean and standard deviation of rows (N, columns)."""
        mean = rows.mean(0)
        return cls(mean, _safe(rows.sub(mean).square().mean(0).sqrt(), mean))

    @classmethod
    def of_targets(cls, rows: Tensor, centred: Sequence[int] = ()) -> Normaliser:
        """Root mean square of rows (N, columns): a change of zero stays zero; only columns ``centred`` are centred."""
        mean = torch.zeros(rows.shape[1])
        mean[list(centred)] = rows.mean(0)[list(centred)]
        return cls(mean, _safe(rows.sub(mean).square().mean(0).sqrt(), mean))

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows in unit scale."""
        return (rows - self.mean) / self.std


def _safe(std: Tensor, mean: Tensor) -> Tensor:
    negligible = std <= 1e-6 * mean.abs() + 1e-12
    return torch.where(negligible, torch.ones_like(std), std)
