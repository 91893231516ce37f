"""Hamiltonian Monte Carlo: many chains in one batched pass, tuned in burn-in, each with its own accept mask.

    p ~ N(0, M);   p <- p - eps/2 grad U;   L times { q <- q + eps M^-1 p;  p <- p - eps grad U }, the last kick halved;
    accept with probability min(1, exp(H(q, p) - H(q', p'))),   H = U(q) + p' M^-1 p / 2

(Neal 2011, "MCMC using Hamiltonian dynamics"). L is drawn anew for every proposal, since paths of one length can come
back to where they began. An update is one proposal: L gradients over all rows. Burn-in adapts eps and the diagonal M
(``chains/adaptation.py``); before the first proposal M is the length of the Hessian's rows and eps is halved or doubled
to acceptance 0.8. A path whose energy rises by more than 1,000 nats is a divergence: it is rejected, and counted after
burn-in, as a sign of regions that the chain cannot enter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.chains.adaptation import adapt, first_mass, start_step_size, start_window
from dynapilco.inference.chains.gradient import PotentialFunction
from dynapilco.inference.chains.hamiltonian import Place, first_step_size, place_at, propose
from dynapilco.inference.chains.method import ChainMethod
from dynapilco.inference.chains.schedule import Moment
from dynapilco.inference.method import Metrics, State, register_inference, require_at_least, require_positive
from dynapilco.inference.target import Batch


@register_inference("hmc")
@dataclass(frozen=True)
class HMC(ChainMethod):
    """Hyper-parameters of Hamiltonian Monte Carlo; see also ``ChainMethod``.

    Attributes
    ----------
    leapfrogs : int
        L, the most leapfrog steps of a proposal.
    jitter : float
        In [0, 1): a proposal has between ``(1 - jitter) L`` and L steps, all equally likely.
    step_size : float or None
        eps, fixed; None adapts it. A fixed one also leaves M = 1, so that it has the units of the weights.
    target_acceptance : float
        Mean acceptance that adaptation aims at, in (0, 1).
    adapt_mass : bool
        Adapt M.
    """

    full_batch: ClassVar[bool] = True

    members: int = 8
    cold_steps: int = 2500
    warm_steps: int = 1000
    search: float = 0.85
    warm_search: float = 0.75
    burn_in: float = 0.5
    leapfrogs: int = 20
    jitter: float = 0.5
    step_size: float | None = None
    target_acceptance: float = 0.9
    adapt_mass: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "leapfrogs")
        require_positive(self, "step_size")
        if self.batch_size is not None:
            raise UserError(f"batch_size={self.batch_size!r}: hmc needs all rows at once, take sghmc for minibatches")
        for name, low in (("jitter", 0.0), ("target_acceptance", 1e-9)):
            if not low <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r}: expected a number in {'[('[low > 0]}0, 1)")

    def prepare(
        self, state: State, potential: PotentialFunction, position: Tensor, batch: Batch, generator: torch.Generator
    ) -> None:
        """Find a mass and a step size, and evaluate the potential where the chains start."""
        place = place_at(potential, position)
        state["potential"], state["gradient"] = place.potential, place.gradient
        state["acceptance"], state["divergences"] = (torch.zeros_like(place.potential) for _ in range(2))
        state["proposals"] = torch.zeros((), dtype=torch.int64, device=position.device)
        start_window(state, position)
        step = torch.full_like(position[:, :1], self.step_size or 0.1)
        if self.step_size is not None:
            state["inverse_mass"] = torch.ones_like(position)
        else:
            if "inverse_mass" not in state or int(state["fits"]) < 2:
                mass = first_mass(potential, position, generator) if self.adapt_mass else torch.ones_like(position)
                state["inverse_mass"] = mass.reciprocal()
            step = first_step_size(potential, place, step, state["inverse_mass"], generator)
        start_step_size(state, step)

    def move(
        self,
        state: State,
        potential: PotentialFunction,
        position: Tensor,
        batch: Batch,
        when: Moment,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """One proposal of every chain."""
        place = Place(position, state["potential"], state["gradient"])
        step = state["log_step" if when.burning else "log_step_mean"].exp()
        low = math.ceil((1 - self.jitter) * self.leapfrogs)
        length = int(torch.randint(low, self.leapfrogs + 1, (), generator=generator, device=position.device))
        done = propose(potential, place, step, state["inverse_mass"], max(1, length), generator)
        state["potential"], state["gradient"] = done.place.potential, done.place.gradient
        if when.burning and self.step_size is None:
            adapt(state, potential, done, when, self.target_acceptance, self.adapt_mass, generator)
        if not when.burning:
            state["proposals"].add_(1)
            state["acceptance"].add_(done.probability)
            state["divergences"].add_(done.divergent)
        return done.place.potential, done.place.position

    def metrics(self, state: State) -> Metrics:
        """Mean acceptance and divergences after burn-in, over all chains, and the mean step size."""
        if "proposals" not in state:
            return super().metrics(state)
        return {
            **super().metrics(state),
            "acceptance": float((state["acceptance"] / state["proposals"].clamp(min=1)).mean()),
            "divergences": float(state["divergences"].sum()),
            "step_size": float(state["log_step_mean"].exp().mean()),
        }
