"""One network at the maximum of the posterior, by Adam: no uncertainty about the function.

    theta <- argmin U(theta) = -sum_i log p(y_i | x_i, theta) - log p(theta)

(Kingma & Ba 2015, "Adam: a method for stochastic optimization"). The baseline that every posterior must beat; with more
than one member, a plain set of independent optima whose spread comes from their initial weights alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import MOST_SETS, State, register_inference
from dynapilco.inference.target import Batch, BayesianModel


@register_inference("adam", "map")
@dataclass(frozen=True)
class Adam(LossMethod):
    """Hyper-parameters of a point estimate by Adam; see ``InferenceMethod`` and ``LossMethod``."""

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """The module's own initial weights; further members re-initialised."""
        params, points = model.initial(replicas * self.members, generator)
        return {"params": params, "points": points}

    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """U, (S,)."""
        return batch.potential(state["params"], state["points"])

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """Every member once."""
        return min(self.members, particles)
