"""SWAG: the Gaussian that the iterates of a constant-rate optimiser trace out; with several members, MultiSWAG.

A MAP fit by Adam comes first. From then on the rate is constant, and each collected iterate theta enters

    mean <- (n mean + theta) / (n + 1)
    v <- (n v + (theta - old mean) (theta - mean)) / (n + 1)
    D <- the newest K columns of [D, theta - mean]
    theta~ = mean + sqrt(2 scale) ( (1/sqrt 2) sqrt(v) z1 + (1/sqrt(2 (K - 1))) D z2 ),    z1, z2 ~ N(0, I)

(Maddox et al. 2019, "A simple baseline for Bayesian uncertainty in deep learning", algorithm 1 and section 3.2;
several members: Wilson & Izmailov 2020.) Hence, with v *variances* and K columns held,

    low rank (K >= 2):  covariance = scale (diag(v) + D D^T / (K - 1))
    diagonal (rank 0):  covariance = 2 scale diag(v)

``scale`` 1/2, the default, is the paper in both cases: diag(v) and D D^T / (K - 1) each estimate the whole variance.
v is kept as a sum of squares (Welford): E theta^2 - (E theta)^2 without its cancellation.

The spread is set by the rate and the batch, not by the posterior: on a conjugate regression with N = 200 sqrt(v) is a
measured 0.13 times the mean-field sd at swag_rate 0.01 (batches of 29, Adam) and 0.014 times at 0.001 (``test_swag``).
With full batches there is hardly any. Tune ``scale`` on held-out data; ``temperature`` does nothing under Adam.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import adam_begin, adam_step, cosine_rate
from dynapilco.inference.draws import Draw, spread
from dynapilco.inference.method import (
    MOST_SETS,
    Clock,
    InferenceMethod,
    State,
    register_inference,
    require_at_least,
    require_one_of,
    require_positive,
)
from dynapilco.inference.target import Batch, BayesianModel, Target


@register_inference("swag", "multiswag")
@dataclass(frozen=True)
class SWAG(InferenceMethod):
    """Hyper-parameters of SWAG.

    Attributes
    ----------
    rank : int
        Most columns of D; 0 is SWAG-diagonal.
    scale : float
        Factor on the covariance, see above.
    learning_rate, swag_rate : float
        Peak rate of the MAP phase, and the constant rate of the collection.
    optimiser : str
        Of the collection: ``"adam"`` or ``"sgd"`` (no momentum; rate in mean-loss units).
    start : float
        Share of the steps that the MAP phase takes, in [0, 1).
    collections : int
        Iterates that are collected, evenly over the rest.
    """

    cold_steps: int = 3000
    warm_steps: int = 1500
    batch_size: int | None = 32
    rank: int = 20
    scale: float = 0.5
    learning_rate: float = 0.01
    swag_rate: float = 0.01
    optimiser: str = "adam"
    start: float = 0.6
    collections: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "rank")
        require_at_least(self, 2, "collections")
        require_positive(self, "scale", "learning_rate", "swag_rate")
        require_one_of(self, "optimiser", ("adam", "sgd"))
        if not 0 <= self.start < 1:
            raise UserError(f"start={self.start!r}: expected a share of the steps in [0, 1)")

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """The module's own initial weights; further members re-initialised; no spread yet."""
        params, points = model.initial(replicas * self.members, generator)
        return {"params": params, "points": points, **self._empty(params, points)}

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Forget the iterates of older data."""
        state.update(self._empty(state["params"], state["points"]))
        adam_begin(state, ("params", "points"))

    def _empty(self, params: Tensor, points: Tensor) -> State:
        return {
            "mean": params.clone(), "squares": torch.zeros_like(params), "mean_points": points.clone(),
            "deviations": params.new_zeros(len(params), self.rank, params.shape[1]), "collected": params.new_zeros(()),
        }  # fmt: skip

    @torch.no_grad()
    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """One update of all members, and a collection where one is due."""
        names, begin = ("params", "points"), int(self.start * clock.steps)
        leaves = [state[name].detach().requires_grad_(True) for name in names]
        with torch.enable_grad():
            values = batch.potential(*leaves)
            mean = (values / batch.rows_of(values.shape[0])).sum()
            found = torch.autograd.grad(mean, leaves, allow_unused=True, materialize_grads=True)
        gradients, rates = dict(zip(names, found, strict=True)), batch.model.point_rates(state["points"])
        rate = cosine_rate(self.learning_rate, clock.done, begin) if clock.done < begin else self.swag_rate
        if clock.done < begin or self.optimiser == "adam":
            adam_step(state, gradients, rate, {"points": rates})
        else:
            state["params"].sub_(gradients["params"], alpha=rate)
            state["points"].sub_(gradients["points"] * rates, alpha=rate)
        done, left = clock.done - begin, clock.steps - begin
        if done >= 0 and (done + 1) * self.collections // left > done * self.collections // left:
            self._collect(state)
        return values.detach()

    def _collect(self, state: State) -> None:
        state["collected"] += 1
        before = state["params"] - state["mean"]
        state["mean"] += before / state["collected"]
        state["mean_points"] += (state["points"] - state["mean_points"]) / state["collected"]
        after = state["params"] - state["mean"]
        state["squares"] += before.square() * (1 - 1 / state["collected"])  # = before * after, and never below 0
        if self.rank:
            state["deviations"] = torch.cat([state["deviations"][:, 1:], after.unsqueeze(1)], 1)

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` samples, spread evenly over the members' Gaussians."""
        mean, collected = state["mean"], int(state["collected"])
        index, columns = spread(mean.shape[0], size, generator), min(self.rank, collected)
        z1 = torch.randn(size, mean.shape[1], generator=generator, device=mean.device, dtype=mean.dtype)
        offset = (2 * self.scale * state["squares"][index] / max(collected, 1)).sqrt() * z1
        if columns >= 2:
            z2 = torch.randn(size, 1, self.rank, generator=generator, device=mean.device, dtype=mean.dtype)
            low = (z2 @ state["deviations"][index]).squeeze(1) * (self.scale / (columns - 1)) ** 0.5
            offset = offset / 2**0.5 + low
        return model.functions(mean[index] + offset, state["mean_points"][index])

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """All different, at most ``most``."""
        return min(particles, most)
