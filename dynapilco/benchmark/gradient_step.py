"""One policy-gradient step beside its floor: the same matrix products alone, same device, same run.

A step is what the policy search does: draw the noise, roll all particles out, sum the rewards, differentiate, clip, and
update by Adam; tanh networks, tsinf, damped adjoints as by default. The floor multiplies matrices of the same shapes
through torch into preallocated outputs: for each time step the model's layers forward and backward to their inputs, the
policy's layers forward, backward to their inputs and to their weights. Call overhead is part of both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dynapilco.benchmark.problem import make_search
from dynapilco.benchmark.timing import interleaved
from dynapilco.core.seeding import torch_generator


@dataclass(frozen=True)
class StepCase:
    """A size: functions, particles for each, time steps, widths of model and policy, and the ratio aimed at."""

    draws: int
    particles: int
    horizon: int
    hidden: tuple[int, ...]
    policy: tuple[int, ...] = (48, 48)
    goal: float | None = None

    @property
    def name(self) -> str:
        """``draws x particles x horizon, model, policy``."""
        hidden, policy = ("x".join((str(len(w)), str(w[0]))) for w in (self.hidden, self.policy))
        return f"{self.draws}x{self.particles}x{self.horizon}, model {hidden}, policy {policy}"


PEER_CASES = (
    StepCase(10, 10, 25, (200, 200), (200, 200), goal=1.4),
    StepCase(100, 1, 25, (200, 200), (200, 200), goal=1.4),
)
"""100 particles of 25 steps, as in prob_mbrl: ten functions, and one for each particle. The second's own floor
multiplies one-row matrices, which torch does badly: compare its step with the first's floor too."""
STEP_CASES = (
    StepCase(10, 40, 60, (200, 200), goal=1.4),
    StepCase(10, 16, 60, (64, 64), goal=1.0),
    *PEER_CASES,
    StepCase(40, 4, 60, (300,)),
)


def time_step(case: StepCase, engine: str, device: torch.device, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of ``repeats`` steps and of their floors, in turn.

    Parameters
    ----------
    case : StepCase
    engine : str
        ``"fused"``, ``"torch"``, or ``"graph"`` (torch, recorded as a CUDA graph).
    device : torch.device
    repeats : int
    """
    products = make_floor(case, device)

    def floor() -> None:
        for _ in range(case.horizon):
            products()

    step, least = interleaved([make_step(case, engine, device), floor], repeats, device)
    return step, least


def make_step(case: StepCase, engine: str, device: torch.device) -> Callable[[], object]:
    """One more step of a search of this size at each call."""
    search = make_search(case.draws, case.particles, case.horizon, case.hidden, case.policy, engine, device)
    counter = iter(range(1, 10**9))
    return lambda: search.step(next(counter))


def make_floor(case: StepCase, device: torch.device) -> Callable[[], None]:
    """The products of one time step, with preallocated outputs."""
    generator = torch_generator(0, "floor", device=device)
    draws, particles, rows = case.draws, case.particles, case.draws * case.particles

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, device=device)

    calls: list[tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]] = []
    for a, b in pairwise((7, *case.hidden, 2)):
        x, w, g = normal(draws, particles, a), normal(draws, a, b), normal(draws, particles, b)
        calls.append((torch.bmm, x, w, empty(draws, particles, b)))
        calls.append((torch.bmm, g, w.transpose(1, 2), empty(draws, particles, a)))
    for a, b in pairwise((6, *case.policy, 1)):
        x, w, g = normal(rows, a), normal(a, b), normal(rows, b)
        calls.append((torch.mm, x, w, empty(rows, b)))
        calls.append((torch.mm, g, w.T, empty(rows, a)))
        calls.append((torch.mm, x.T, g, empty(a, b)))

    def products() -> None:
        for multiply, left, right, out in calls:
            multiply(left, right, out=out)

    return products
