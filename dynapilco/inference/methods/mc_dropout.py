"""Monte Carlo dropout.

One network, trained under random masks on its hidden units; a function of the posterior is one mask, held fixed
(Gal & Ghahramani 2016, "Dropout as a Bayesian approximation"; Gal, McAllister & Rasmussen 2016, "Improving PILCO with
Bayesian neural network dynamics models", where the mask is held along a whole trajectory). The weight prior enters as
the quadratic penalty of the target:

    U(theta) = -E_mask[ sum_i log p(y_i | x_i, theta * mask_i) ] - log p(theta).

A mask scales the columns of the weights that read its units, in any module: ``dropout.sites`` says where, and
``MCDropout().dropped(model)`` names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.dropout import DropoutMethod, DropoutSites, bernoulli_masks
from dynapilco.inference.method import State, register_inference
from dynapilco.inference.target import Batch, BayesianModel


@register_inference("mc_dropout", "dropout")
@dataclass(frozen=True)
class MCDropout(DropoutMethod):
    """Hyper-parameters of Monte Carlo dropout; see also ``DropoutMethod``.

    Attributes
    ----------
    rate : float
        Probability that a unit is dropped, in [0, 1).
    """

    cold_steps: int = 4000
    warm_steps: int = 3000
    rate: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate < 1:
            raise UserError(f"rate={self.rate!r}: a dropout rate lies in [0, 1)")

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """Plain stacks start from the prior; other modules at their own weights, further members re-initialised."""
        start = model.initial if model.network.dense_plan is None else model.initial_from_prior
        params, points = start(replicas * self.members, generator)
        return {"params": params, "points": points}

    def rates(self, state: State, sites: DropoutSites) -> Sequence[float]:
        """``rate`` at every site."""
        return [self.rate] * len(sites.sites)

    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """U under fresh masks, (S,)."""
        params, points = state["params"], state["points"]

        def masks(sites: DropoutSites, lead: Sequence[int]) -> tuple[Tensor, ...]:
            return bernoulli_masks(self.rates(state, sites), sites.widths, lead, params, generator)

        fit = self.expected_fit(batch, params, points, masks)
        return -(fit + batch.log_prior(params, points)) / self.temperature
