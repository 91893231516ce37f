"""Monte Carlo dropout.

One network, trained under random masks on its hidden units; a function of the posterior is one mask, held fixed
(Gal & Ghahramani 2016, "Dropout as a Bayesian approximation"; Gal, McAllister & Rasmussen 2016, "Improving PILCO with
Bayesian neural network dynamics models", where the mask is held along a whole trajectory). The weight prior enters as
the quadratic penalty of the target:

    U(theta) = -E_mask[ sum_i log p(y_i | x_i, theta * mask_i) ] + 1/2 |theta|^2 / prior_std^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import CosineAdam
from dynapilco.inference.draws import Draw, make_draw
from dynapilco.inference.method import State, register_inference
from dynapilco.inference.target import BayesianModel, Target


@register_inference("mc_dropout", "dropout")
@dataclass(frozen=True)
class MCDropout:
    """Hyper-parameters of Monte Carlo dropout.

    Attributes
    ----------
    rate : float
        Probability that a hidden unit is dropped, in [0, 1).
    learning_rate : float
        Peak rate of Adam (full batch, a fresh mask for every row and step), with cosine decay.
    cold_steps, warm_steps : int
        Updates of the first fit and of each later one.
    """

    rate: float = 0.01
    learning_rate: float = 0.01
    cold_steps: int = 4000
    warm_steps: int = 3000

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise UserError(f"rate={self.rate!r}: a dropout rate lies in [0, 1)")
        for name in ("cold_steps", "warm_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r}: expected at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate={self.learning_rate!r}: expected a finite number above 0")

    def steps(self, *, warm: bool) -> int:
        """Updates of a warm or a cold fit."""
        return self.warm_steps if warm else self.cold_steps

    def natural_draws(self, particles: int) -> int:
        """A mask for each particle."""
        return particles

    def init(self, model: BayesianModel, generator: torch.Generator) -> State:
        """One parameter vector from the prior, with small output biases."""
        if model.network.dense_plan is None:
            raise UserError("inference 'mc_dropout' needs a plain stack of Linear layers to drop hidden units from")
        params = model.prior.sample(model.network.layout, 1, generator)
        params[:, -model.outputs :] = 0.0
        return {"params": params, "noise": model.likelihood.init(1, model.outputs).to(params.device)}

    def start(self, state: State, target: Target, steps: int) -> CosineAdam:
        """Full-batch Adam on U / N, a fresh mask for each row."""
        network, rows, axis = target.model.network, target.size, target.row_axis
        if axis != 0:
            raise UserError("inference 'mc_dropout' takes shared data (N, *), got one data set for each member")
        x = target.x.unsqueeze(0)

        def objective(params: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
            f = network.dense(params, self._masks(network.dense(params).biases, target.rows, generator))(x)
            return (target.negative_log_prior(params) - target.log_likelihood(f, noise)) / target.temperature / rows

        return CosineAdam(state, objective, self.learning_rate, steps)

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` masks over the shared weights."""
        if size < 1:
            raise UserError(f"draw size {size}: expected at least 1")
        biases = model.network.dense(state["params"]).biases
        scale = model.likelihood.scale(state["noise"]).expand(size, -1)
        return make_draw(model.network, state["params"], scale, model.likelihood, self._masks(biases, size, generator))

    def _masks(self, biases: tuple[Tensor, ...], rows: int, generator: torch.Generator) -> tuple[Tensor | None, ...]:
        keep = 1.0 - self.rate
        return tuple(
            (torch.rand(rows, b.shape[-1], generator=generator, device=b.device) < keep).to(b.dtype) / keep
            for b in biases[:-1]
        )
