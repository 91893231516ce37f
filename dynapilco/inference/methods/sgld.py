"""Stochastic gradient Langevin dynamics, plain or preconditioned, with constant, decaying or cyclical steps.

    theta <- theta - eta_t G grad U~(theta) + sqrt(2 eta_t G) e,    e ~ N(0, I)

with U~ the potential of a minibatch and G = 1 (Welling & Teh 2011, there with eta = epsilon / 2), or, preconditioned
(Li, Chen, Carlson & Carin 2016), with g = grad U~ / N,

    V <- alpha V + (1 - alpha) g^2,    G = 1 / (kappa + sqrt V).

Their term Gamma = div G is dropped, which biases a chain whose V moves; V is therefore frozen after burn-in, and then
Gamma is zero and nothing is biased by it. V starts at the length of the Hessian's rows. With a constant step the chain
does not sample the posterior exactly but, where that is Gaussian of precision A, N(mean, (A - eta A^2 / 2)^-1) (G = 1).
Schedules: ``chains/schedule.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.chains.curvature import largest_curvature, normal_like, row_curvature
from dynapilco.inference.chains.gradient import PotentialFunction
from dynapilco.inference.chains.method import ChainMethod
from dynapilco.inference.chains.schedule import Moment, Schedule
from dynapilco.inference.chains.units import check_step, due, measure_limit
from dynapilco.inference.method import Metrics, State, register_inference, require_positive
from dynapilco.inference.target import Batch


@register_inference("sgld")
@dataclass(frozen=True)
class SGLD(ChainMethod):
    """Hyper-parameters of stochastic gradient Langevin dynamics; see also ``ChainMethod``.

    Attributes
    ----------
    step_size : float
        eta of the first move. Relative: h = eta / (2 / lambda), lambda the largest curvature of the (preconditioned)
        potential, so that 1 is the limit of stability for any N; the posterior variance is too large by 1 / (1 - h) in
        the stiffest direction, by less in all others.
    step_units : str
        ``"relative"`` or ``"absolute"``.
    preconditioned : bool
        pSGLD.
    alpha, kappa : float
        Memory of V in [0, 1), and what is added to sqrt V, above 0.
    schedule : str
        ``"constant"``, ``"polynomial"`` or ``"cyclical"``; burn-in of the last is the first cycle's way to its samples.
    gamma, offset, cycles, sampling : float, float, int, float
        Of the schedule, see ``Schedule``.
    """

    cold_steps: int = 5000
    warm_steps: int = 3000
    search: float = 0.4
    step_size: float = 0.3
    step_units: str = "relative"
    preconditioned: bool = False
    alpha: float = 0.99
    kappa: float = 1e-5
    schedule: str = "constant"
    gamma: float = 0.55
    offset: float = 0.1
    cycles: int = 4
    sampling: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_step(self)
        require_positive(self, "kappa")
        if not 0 <= self.alpha < 1:
            raise UserError(f"alpha={self.alpha!r}: expected a memory in [0, 1)")
        self.schedule_of_moves()  # checks the rest

    def schedule_of_moves(self) -> Schedule:
        """The schedule of these options."""
        return Schedule(self.schedule, self.gamma, self.offset, self.cycles, self.sampling)

    def prepare(
        self, state: State, potential: PotentialFunction, position: Tensor, batch: Batch, generator: torch.Generator
    ) -> None:
        """Unit step limit, and V from the curvature."""
        state["limit"] = torch.ones_like(position[:, :1])
        state["second_moment"] = torch.zeros_like(position)
        if self.preconditioned:
            largest = largest_curvature(potential, position, 1.0, generator)
            rows = batch.rows_of(position.shape[0]).unsqueeze(-1)
            state["second_moment"] = row_curvature(potential, position, largest, generator) / rows**2

    def move(
        self,
        state: State,
        potential: PotentialFunction,
        position: Tensor,
        batch: Batch,
        when: Moment,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """One step of every chain."""
        schedule, moves = self.schedule_of_moves(), when.plan.moves
        metric = self._metric(state, position)
        if self.step_units == "relative" and due(when):
            first = when.number == 0
            measure_limit(state, potential, position, metric.sqrt(), 2.0, generator, first=first)
        values, gradient = potential(position)
        step = state["limit"] * (self.step_size * schedule.rate(when.number, moves)) * metric
        position = position - step * gradient
        if schedule.noisy(when.number, moves):
            position += (2 * step).sqrt() * normal_like(position, generator)
        if self.preconditioned and when.burning:
            mean = gradient / batch.rows_of(position.shape[0]).unsqueeze(-1)
            state["second_moment"].mul_(self.alpha).add_((1 - self.alpha) * mean.square())
        return values, position

    def metrics(self, state: State) -> Metrics:
        """Samples kept and the mean step size of the first move, absolute (times G where preconditioned)."""
        found = super().metrics(state)
        return {**found, "step_size": float(self.step_size * state["limit"].mean())} if "limit" in state else found

    def _metric(self, state: State, position: Tensor) -> Tensor:
        """G, (S, n + k)."""
        if not self.preconditioned:
            return torch.ones_like(position)
        return 1 / (self.kappa + state["second_moment"].sqrt())
