"""Anchored deep ensemble.

Each member m descends

    U_m(theta) = -sum_i log p(y_i | x_i, theta) + 1/2 |theta - anchor_m|^2 / prior_std^2,   anchor_m ~ prior,

so that the members scatter like a posterior and not like copies of one fit (randomised MAP sampling: Pearce et al.
2020, "Uncertainty in neural networks: approximately Bayesian ensembling", eq. 9). Anchors stay the same when the data
grow, hence a warm start continues the same random function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import CosineAdam
from dynapilco.inference.draws import Draw, make_draw, spread
from dynapilco.inference.method import State, register_inference
from dynapilco.inference.target import BayesianModel, Target


@register_inference("ensemble")
@dataclass(frozen=True)
class Ensemble:
    """Hyper-parameters of the anchored ensemble.

    Attributes
    ----------
    members : int
        Number of networks.
    learning_rate : float
        Peak rate of Adam (full batch), with cosine decay.
    cold_steps, warm_steps : int
        Updates of the first fit and of each later one.
    output_bias_scale : float
        Standard deviation of the anchors of the output biases; small, since targets are standardised.
    """

    members: int = 10
    learning_rate: float = 0.01
    cold_steps: int = 1500
    warm_steps: int = 700
    output_bias_scale: float = 0.1

    def __post_init__(self) -> None:
        for name in ("members", "cold_steps", "warm_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r}: expected at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate={self.learning_rate!r}: expected a finite number above 0")

    def steps(self, *, warm: bool) -> int:
        """Updates of a warm or a cold fit."""
        return self.warm_steps if warm else self.cold_steps

    def natural_draws(self, particles: int) -> int:
        """Every member once."""
        return min(self.members, particles)

    def init(self, model: BayesianModel, generator: torch.Generator) -> State:
        """Anchors from the prior; every member starts at its anchor."""
        layout = model.network.layout
        anchors = model.prior.sample(layout, self.members, generator)
        if model.network.dense_plan is not None:  # there the last named parameter is the output bias
            anchors[:, -model.outputs :] *= self.output_bias_scale / model.prior.output_scale
        noise = model.likelihood.init(self.members, model.outputs).to(anchors.device)
        return {"params": anchors.clone(), "noise": noise, "anchors": anchors}

    def start(self, state: State, target: Target, steps: int) -> CosineAdam:
        """Full-batch Adam on U / N."""
        anchors, rows = state["anchors"], target.size
        return CosineAdam(
            state,
            lambda params, noise, _: target.potential(params, noise, loc=anchors) / rows,
            self.learning_rate,
            steps,
        )

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` members, spread evenly."""
        index = spread(state["params"].shape[0], size, generator)
        scale = model.likelihood.scale(state["noise"])
        return make_draw(model.network, state["params"][index], scale[index], model.likelihood)
