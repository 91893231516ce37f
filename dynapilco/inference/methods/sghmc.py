"""Stochastic gradient Hamiltonian Monte Carlo: Langevin dynamics with momentum, plain or scale-adapted.

    v <- (1 - alpha) v - eta grad U~(theta) + N(0, 2 (alpha - beta) eta),    theta <- theta + v

(Chen, Fox & Guestrin 2014, eq. 15; alpha the friction, beta the share of it that minibatch noise already provides).
Scale-adapted (Springenberg, Klein, Falkner & Hutter 2016, eq. 8-9: BOHAMIANN), coordinate by coordinate,

    v <- (1 - alpha) v - eta V^-1/2 grad U~ + N(0, 2 (alpha - beta) eta V^-1/2 - [noise_correction] eta^2),

with g, V and the window tau estimated in burn-in and then frozen:

    1/tau the weight of what is new:  g <- g + (grad - g)/tau,  V <- V + (grad^2 - V)/tau,  tau <- 1 + tau (1 - g^2/V).

V starts at the length of the Hessian's rows. The paper's eta^2 (its l^4) subtracts V as if all of it were minibatch
noise; with full batches there is none, so the correction is off unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.chains.curvature import largest_curvature, normal_like, row_curvature
from dynapilco.inference.chains.gradient import PotentialFunction
from dynapilco.inference.chains.method import ChainMethod
from dynapilco.inference.chains.schedule import Moment
from dynapilco.inference.chains.units import check_step, due, measure_limit
from dynapilco.inference.method import Metrics, State, register_inference
from dynapilco.inference.target import Batch

LEAST_WINDOW = 20.0
"""tau never falls below: V then stays an average, also where the chain drifts and g^2 exceeds V."""


@register_inference("sghmc")
@dataclass(frozen=True)
class SGHMC(ChainMethod):
    """Hyper-parameters of stochastic gradient Hamiltonian Monte Carlo; see also ``ChainMethod``.

    Attributes
    ----------
    step_size : float
        eta. Relative: in units of the limit of stability 2 (2 - alpha) / lambda, lambda the largest curvature of the
        (scaled) potential; thus in (0, 1) for any N.
    step_units : str
        ``"relative"`` or ``"absolute"`` (scale-adapted: eta = l^2).
    alpha : float
        Friction, in (0, 1); 1 - alpha is the momentum.
    beta : float
        Friction that minibatch noise is taken to provide, in [0, alpha].
    scale_adapted : bool
    noise_correction : bool
        Scale-adapted only: subtract eta^2 (never below zero).
    """

    cold_steps: int = 5000
    warm_steps: int = 3000
    search: float = 0.4
    step_size: float = 0.1
    step_units: str = "relative"
    alpha: float = 0.05
    beta: float = 0.0
    scale_adapted: bool = True
    noise_correction: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_step(self)
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha={self.alpha!r}: expected a friction in (0, 1)")
        if not 0 <= self.beta <= self.alpha:
            raise UserError(f"beta={self.beta!r}: expected a share of the friction, in [0, alpha={self.alpha!r}]")
        if self.noise_correction and not self.scale_adapted:
            raise UserError("noise_correction=True goes with scale_adapted=True; give beta otherwise")

    def prepare(
        self, state: State, potential: PotentialFunction, position: Tensor, batch: Batch, generator: torch.Generator
    ) -> None:
        """Velocities at rest; V from the curvature."""
        state["velocity"] = torch.zeros_like(position)
        state["limit"] = torch.ones_like(position[:, :1])
        if self.scale_adapted:
            largest = largest_curvature(potential, position, 1.0, generator)
            state["second_moment"] = row_curvature(potential, position, largest, generator).clamp(min=1e-6 * largest)
            state["first_moment"] = torch.zeros_like(position)
            state["window"] = torch.full_like(position, LEAST_WINDOW)

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
        metric = state["second_moment"].rsqrt() if self.scale_adapted else torch.ones_like(position)
        if self.step_units == "relative" and due(when):
            stable, first = 2 * (2 - self.alpha), when.number == 0
            measure_limit(state, potential, position, metric.sqrt(), stable, generator, first=first)
        values, gradient = potential(position)
        size = self.step_size * state["limit"]
        variance = 2 * (self.alpha - self.beta) * size * metric
        if self.noise_correction:
            variance = (variance - size.square()).clamp(min=0.0)
        velocity = state["velocity"].mul_(1 - self.alpha).sub_(size * metric * gradient)
        velocity += variance.sqrt() * normal_like(position, generator)
        if self.scale_adapted and when.burning:
            self._adapt(state, gradient)
        return values, position + velocity

    def metrics(self, state: State) -> Metrics:
        """Samples kept and the mean step size, absolute."""
        found = super().metrics(state)
        return {**found, "step_size": float(self.step_size * state["limit"].mean())} if "limit" in state else found

    def _adapt(self, state: State, gradient: Tensor) -> None:
        """One update of g, V and tau (Springenberg et al. 2016, eq. 8)."""
        weight = 1 / state["window"]
        first, second = state["first_moment"], state["second_moment"]
        state["window"].mul_(1 - first.square() / second).add_(1).clamp_(min=LEAST_WINDOW)
        first.add_(weight * (gradient - first))
        second.add_(weight * (gradient.square() - second))
