"""Monte Carlo dropout.

One network, trained under random masks on its hidden units; a function of the posterior is one mask, held fixed
(Gal & Ghahramani 2016, "Dropout as a Bayesian approximation"; Gal, McAllister & Rasmussen 2016, "Improving PILCO with
Bayesian neural network dynamics models", where the mask is held along a whole trajectory). The weight prior enters as
the quadratic penalty of the target:

    U(theta) = -E_mask[ sum_i log p(y_i | x_i, theta * mask_i) ] - log p(theta).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.draws import Draw
from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import State, register_inference
from dynapilco.inference.target import Batch, BayesianModel


@register_inference("mc_dropout", "dropout")
@dataclass(frozen=True)
class MCDropout(LossMethod):
    """Hyper-parameters of Monte Carlo dropout.

    Attributes
    ----------
    rate : float
        Probability that a hidden unit is dropped, in [0, 1). A fresh mask is drawn for every row and step.
    """

    rate: float = 0.01
    cold_steps: int = 4000
    warm_steps: int = 3000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate < 1:
            raise UserError(f"rate={self.rate!r}: a dropout rate lies in [0, 1)")

    def refusal(self, model: BayesianModel) -> str | None:
        """Needs hidden units that it can find."""
        return None if model.network.dense_plan is not None else "needs a plain stack of Linear layers"

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """Parameter vectors from the prior."""
        params, points = model.initial_from_prior(replicas * self.members, generator)
        return {"params": params, "points": points}

    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """U with a fresh mask for each row, (S,)."""
        params, points = state["params"], state["points"]
        members = params.shape[0]
        network, flat = batch.model.network, batch.model.full(params, points)
        masks = self._masks(network.dense(flat).biases, (members, batch.rows), generator)
        f = network.masked(flat, batch.inputs_of(members), masks)
        return -(batch.log_likelihood(f, points) + batch.log_prior(params, points)) / self.temperature

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` masks over the shared weights."""
        if size < 1:
            raise UserError(f"draw size {size}: expected at least 1")
        biases = model.network.dense(model.full(state["params"], state["points"])).biases
        points = state["points"].expand(size, -1)
        return model.functions(state["params"], points, self._masks(biases, (size,), generator))

    def _masks(
        self, biases: tuple[Tensor, ...], lead: tuple[int, ...], generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        keep = 1.0 - self.rate
        return tuple(
            (torch.rand(*lead, b.shape[-1], generator=generator, device=b.device) < keep).to(b.dtype) / keep
            for b in biases[:-1]
        )
