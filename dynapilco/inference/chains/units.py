"""Step sizes in units of the largest stable one, so that one default serves any number of rows and any noise.

The limit is known from the largest curvature of the potential where the chain stands, measured when the chain starts
and ``REFRESHES`` times in burn-in, more often in its beginning, the last time at its end: from there on the step size
and the preconditioner are frozen. The smallest limit that was met counts. Otherwise a chain that strays to where the
noise is large, and the potential flat, would take larger steps there, and stray further.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.chains.curvature import ITERATIONS, stiffest_direction, unit_like
from dynapilco.inference.chains.gradient import PotentialFunction
from dynapilco.inference.chains.schedule import Moment
from dynapilco.inference.method import State, require_one_of, require_positive

UNITS = ("relative", "absolute")
REFRESHES = 8
AGAIN = 4
"""Power iterations of a later measurement, which starts at the direction of the one before."""


def check_step(options: object) -> None:
    """Raise ``UserError`` for ``step_size`` or ``step_units`` that mean nothing."""
    require_one_of(options, "step_units", UNITS)
    require_positive(options, "step_size")
    size = getattr(options, "step_size")  # noqa: B009
    if getattr(options, "step_units") == "relative" and size >= 1:  # noqa: B009
        raise UserError(f"step_size={size!r}: a relative step size lies in (0, 1), 1 is the limit of stability")


def due(when: Moment) -> bool:
    """Whether the limit is measured before this move."""
    burn = when.plan.burn
    return when.number in {round(burn * (part / REFRESHES) ** 2) for part in range(REFRESHES + 1)}


def measure_limit(
    state: State,
    potential: PotentialFunction,
    position: Tensor,
    scale: Tensor | float,
    stable: float,
    generator: torch.Generator,
    *,
    first: bool,
) -> None:
    """Lower ``limit`` (S, 1), the largest stable step, to ``stable`` over the scaled potential's largest curvature.

    ``first`` forgets what was there.
    """
    if first:
        state["stiffest"] = unit_like(position, generator)
    count = ITERATIONS if first else AGAIN
    largest, state["stiffest"] = stiffest_direction(potential, position, scale, state["stiffest"], count)
    limit = stable / largest
    state["limit"] = limit if first else torch.minimum(limit, state["limit"])
