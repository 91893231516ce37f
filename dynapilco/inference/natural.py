"""Gaussian posteriors N(mean, diag(std^2)) that are found by natural-gradient steps: what IVON, Vadam and BSAM share.

Everything is in units of the *mean* loss, with N rows and temperature T:

    ell(theta) = -(1/N) sum_i log p(y_i | x_i, theta),    delta = 1 / (N prior_std^2),    std^2 = T / (N (h + delta))

where h estimates the diagonal curvature of ell (Khan & Rue 2023, "The Bayesian learning rule", section 4). Gaussian
priors enter by delta, exactly. Any other prior enters by the gradient of its log density, then a part of ell; delta
only bounds the spread where nothing else does. Noise parameters and excluded weights are point-estimated by Adam from
gradients at the sampled weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import adam_begin, adam_step, cosine_rate
from dynapilco.inference.draws import Draw, spread
from dynapilco.inference.method import (
    MOST_SETS,
    Clock,
    InferenceMethod,
    Metrics,
    State,
    require_at_least,
    require_positive,
)
from dynapilco.inference.per_example import squared_gradients
from dynapilco.inference.target import Batch, BayesianModel, Target

COOL = 0.1
"""Factor on the perturbations of the first part of a fit."""

MEMORIES = 20
"""Time constants of the curvature average that a fit holds, where beta2 is None."""


@dataclass(frozen=True)
class Gradients:
    """Of the mean loss at K samples of S members.

    Attributes
    ----------
    values : Tensor
        U of each member, averaged over its samples, (S,).
    params : Tensor
        (S, K, n).
    points : Tensor
        Averaged over samples, (S, k + m).
    """

    values: Tensor
    params: Tensor
    points: Tensor


def memory_rate(beta2: float | None, clock: Clock) -> float:
    """1 - beta2, or with None 20 / steps: a fit then forgets the curvature that it began with 20 times over."""
    return 1 - beta2 if beta2 is not None else min(0.1, MEMORIES / clock.steps)


def gradients_at(batch: Batch, theta: Tensor, points: Tensor, *, learn: bool = True) -> Gradients:
    """Gradients of ell at theta (S, K, n), with points (S, k + m); in the points only where ``learn``."""
    members, samples, n = theta.shape
    learn = learn and points.shape[-1] > 0
    leaf = theta.view(-1, n).requires_grad_(True)
    repeated = points.detach() if samples == 1 else points.detach().repeat_interleave(samples, 0)
    leaves = [leaf, repeated.requires_grad_(True)] if learn else [leaf]
    gaussian = batch.model.prior.gaussian
    with torch.enable_grad():
        density = batch.log_likelihood(batch.outputs(leaf, repeated), repeated)
        if not gaussian:
            density = density + batch.log_prior(leaf, repeated)
        elif learn:
            density = density + batch.model.likelihood.log_prior(batch.model.split_points(repeated)[0])
        share = -batch.rows_of(leaf.shape[0]).reciprocal()
        found = torch.autograd.grad(density, leaves, share, allow_unused=True)
    values = -density.detach()
    if gaussian:
        values -= batch.model.prior.log_prob(leaf.detach(), batch.model.network.layout)
    if gaussian and not learn and points.shape[-1]:
        values -= batch.model.likelihood.log_prior(batch.model.split_points(repeated)[0])
    params, own = found[0], found[1] if learn else None
    own = torch.zeros_like(repeated) if own is None else own
    if samples > 1:
        values, own = values.view(members, samples).mean(1), own.view(members, samples, -1).mean(1)
    return Gradients(values / batch.temperature, params.view(theta.shape), own)


def mean_squares(batch: Batch, theta: Tensor, points: Tensor) -> Tensor:
    """(1/N) sum_i of squared gradients of row i's loss, averaged over samples: theta (S, K, n) -> (S, n)."""
    members, samples, n = theta.shape
    squares = squared_gradients(batch, theta.reshape(-1, n), points.repeat_interleave(samples, 0))
    return squares.view(members, samples, n).mean(1) / batch.rows_of(members).unsqueeze(-1)


@dataclass(frozen=True)
class NaturalMethod(InferenceMethod):
    """A Gaussian posterior for each member, by natural-gradient steps.

    A fit begins cool: perturbations of a tenth of their size, under which mean and noise parameters find the data. The
    noise parameters then stay, and the perturbations grow to their full size. Learned under full perturbations, the
    noise would take the spread of the function for noise of the data, which widens the posterior, and so on: with more
    weights than rows, mean-field posteriors then end at the prior. ``warm_up=0`` leaves all that out.

    Attributes
    ----------
    learning_rate : float
        Peak rate of the mean, with warm-up and cosine decay.
    point_rate : float
        Peak rate of Adam for noise parameters and excluded weights.
    samples : int
        K, weight samples a step.
    beta1 : float
        Decay of the averaged gradient.
    beta2 : float or None
        Decay of the averaged curvature; None is 1 - 20 / steps, so that the fit forgets where it began.
    warm_up : float
        Share of the steps that are cool; the perturbations grow over as many again. In [0, 0.5].
    """

    learning_rate: float = 0.1
    point_rate: float = 0.01
    samples: int = 1
    beta1: float = 0.9
    beta2: float | None = None
    warm_up: float = 0.4

    prior_share: ClassVar[float] = 1.0
    """Of 1 / prior_std^2, the part that bounds the spread where the prior is not Gaussian."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "learning_rate", "point_rate")
        require_at_least(self, 1, "samples")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UserError(f"{name}={value!r}: expected a number in [0, 1)")
        if not 0 <= self.warm_up <= 0.5:
            raise UserError(f"warm_up={self.warm_up!r}: expected a share of the steps in [0, 0.5]")

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """Means at the module's own weights (further members re-initialised); before data, the prior's spread."""
        params, points = model.initial(replicas * self.members, generator)
        delta = model.prior.std(model.network.layout).to(params).square().reciprocal().expand_as(params).clone()
        return {
            "params": params, "points": points, "momentum": torch.zeros_like(params),
            "curvature": torch.zeros_like(params), "delta": delta, "effective": torch.ones_like(params[:, :1]),
            "curvature_updates": params.new_zeros(()),
        }  # fmt: skip

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Rescale to N, zero the momenta, keep mean and curvature."""
        params, prior = state["params"], target.model.prior
        rows = target.all.rows_of(params.shape[0]).unsqueeze(-1).to(params)
        precision = prior.std(target.model.network.layout).to(params).square().reciprocal()
        state["delta"] = (1.0 if prior.gaussian else self.prior_share) * precision / rows
        state["effective"] = rows / target.temperature
        state["momentum"] = torch.zeros_like(params)
        adam_begin(state, ("points",))

    def std(self, state: State) -> Tensor:
        """Standard deviations of the posterior, (S, n)."""
        return ((state["curvature"] + state["delta"]) * state["effective"]).rsqrt()

    def heat(self, clock: Clock) -> float:
        """Factor on the perturbations of this step."""
        if not self.warm_up:
            return 1.0
        grown = clock.done / (self.warm_up * clock.steps) - 1
        return min(1.0, COOL + (1 - COOL) * max(0.0, grown))

    def noise(self, state: State, generator: torch.Generator) -> Tensor:
        """Standard normal numbers (S, K, n)."""
        params = state["params"]
        shape = (params.shape[0], self.samples, params.shape[1])
        return torch.randn(shape, generator=generator, device=params.device, dtype=params.dtype)

    def learns_points(self, batch: Batch, clock: Clock) -> bool:
        """Whether this step moves noise parameters or excluded weights."""
        return self._cool(clock) or batch.model.network.excluded.total > 0

    def _cool(self, clock: Clock) -> bool:
        return not self.warm_up or clock.done < self.warm_up * clock.steps

    def move_points(self, state: State, batch: Batch, gradient: Tensor, clock: Clock) -> None:
        """One step of Adam for noise parameters (while cool) and excluded weights."""
        if not gradient.shape[-1] or not self.learns_points(batch, clock):
            return
        rate, points = cosine_rate(self.point_rate, clock.done, clock.steps), state["points"]
        noise = points.shape[-1] - batch.model.network.excluded.total
        held = None if self._cool(clock) else points[:, :noise].clone()
        adam_step(state, {"points": gradient}, rate, {"points": batch.model.point_rates(points)})
        if held is not None:
            state["points"][:, :noise] = held

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` samples, spread evenly over the members' Gaussians."""
        index = spread(state["params"].shape[0], size, generator)
        mean, std = state["params"][index], self.std(state)[index]
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return model.functions(mean + std * noise, state["points"][index])

    def metrics(self, state: State) -> Metrics:
        """Mean posterior standard deviation of a weight."""
        return {"posterior_std": float(self.std(state).mean())}

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """All different, at most ``most``."""
        return min(particles, most)
