"""One network at the maximum of the posterior, by stochastic gradient descent with momentum.

With g the gradient of the mean loss U / N, cut to a norm of at most c,

    v <- mu v + g,    theta <- theta - alpha v

(Polyak 1964; Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", without the
1 - mu of some texts.) Cutting the norm (Pascanu et al. 2013) keeps it stable where the learned noise is small: the
gradient grows as 1 / sigma^2. No uncertainty about the function beyond that of several members.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import cosine_rate
from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import MOST_SETS, Clock, State, register_inference, require_one_of, require_positive
from dynapilco.inference.target import Batch, BayesianModel, Target


@register_inference("sgd")
@dataclass(frozen=True)
class SGD(LossMethod):
    """Hyper-parameters of SGD; see also ``InferenceMethod``.

    Attributes
    ----------
    learning_rate : float
        alpha; mean-loss units.
    momentum : float
        mu in [0, 1).
    max_norm : float or None
        c, for each member and each of weights and points; None never cuts.
    schedule : str
        ``"cosine"`` (warm-up, then decay to zero) or ``"constant"``.
    """

    learning_rate: float = 0.05
    cold_steps: int = 3000
    warm_steps: int = 1500
    momentum: float = 0.9
    max_norm: float | None = 1.0
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "max_norm")
        require_one_of(self, "schedule", ("cosine", "constant"))
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum={self.momentum!r}: expected a number in [0, 1)")

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """The module's own initial weights; further members re-initialised."""
        params, points = model.initial(replicas * self.members, generator)
        rest = {"velocity_params": torch.zeros_like(params), "velocity_points": torch.zeros_like(points)}
        return {"params": params, "points": points, **rest}

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """At rest."""
        for name in self.trainable:
            state[f"velocity_{name}"] = torch.zeros_like(state[name])

    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """U, (S,)."""
        return batch.potential(state["params"], state["points"])

    @torch.no_grad()
    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """One update of all members."""
        values, gradients = self.gradients(state, batch, generator)
        cosine = self.schedule == "cosine"
        rate = cosine_rate(self.learning_rate, clock.done, clock.steps) if cosine else self.learning_rate
        for name, gradient in gradients.items():
            if self.max_norm is not None and gradient.shape[-1]:
                norm = gradient.norm(dim=-1, keepdim=True)
                gradient = gradient * (self.max_norm / norm.clamp_min(self.max_norm))
            velocity = state[f"velocity_{name}"].mul_(self.momentum).add_(gradient)
            move = velocity * batch.model.point_rates(state["points"]) if name == "points" else velocity
            state[name].sub_(move, alpha=rate)
        return values

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """Every member once."""
        return min(self.members, particles)
