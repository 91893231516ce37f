"""Deep ensembles: plain, bootstrap, with randomised priors, and anchored.

Member m descends, with w the row weights,

    plain      -sum_i     log p(y_i | x_i, theta) - log p(theta)                   spread by initial weights alone
    bootstrap  -sum_i w_i log p(y_i | x_i, theta) - log p(theta)                   w ~ multinomial(N, 1/N)
    prior      -sum_i     log p(y_i | f(x_i; theta) + beta f(x_i; theta0_m)) - log p(theta)
    anchored   -sum_i     log p(y_i | x_i, theta) - log p(theta - anchor_m)        anchor_m ~ prior

(Lakshminarayanan et al. 2017; bootstrap: Chua et al. 2018; randomised priors: Osband et al. 2018, f(x; theta0_m) fixed;
anchored: Pearce et al. 2020, "Uncertainty in neural networks: approximately Bayesian ensembling", eq. 9.) Anchors stay
the same when the data grow, hence a warm start continues the same random function. With ``target_noise`` anchored
members also see targets y_i + sigma_m e_i with e_i ~ N(0, 1) fixed, and then are exact posterior samples for a linear
model with Gaussian noise (randomise-then-optimise: Bardsley et al. 2014); sigma is learned from the true targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.draws import Draw, add_draws, spread
from dynapilco.inference.likelihoods import Gaussian
from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import MOST_SETS, State, register_inference, require_at_least, require_one_of
from dynapilco.inference.target import Batch, BayesianModel, Target

KINDS = ("anchored", "plain", "bootstrap", "prior")


@register_inference("ensemble", "deep_ensemble")
@dataclass(frozen=True)
class Ensemble(LossMethod):
    """Hyper-parameters of an ensemble; see also ``InferenceMethod`` and ``LossMethod``.

    Attributes
    ----------
    members : int
        Number of networks.
    kind : str
        ``"anchored"``, ``"plain"``, ``"bootstrap"`` or ``"prior"`` (randomised priors).
    target_noise : bool
        Anchored only: perturb the targets, which makes the members exact for linear Gaussian models.
    beta : float
        Scale of the fixed prior functions (``kind="prior"``).
    """

    members: int = 10
    cold_steps: int = 1500
    warm_steps: int = 700
    kind: str = "anchored"
    target_noise: bool = False
    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, "kind", KINDS)
        require_at_least(self, 0, "beta")
        if self.target_noise and self.kind != "anchored":
            raise UserError(f"target_noise=True goes with kind='anchored', got kind={self.kind!r}")

    def refusal(self, model: BayesianModel) -> str | None:
        """Only Gaussian targets can be perturbed."""
        if self.target_noise and not isinstance(model.likelihood, Gaussian):
            return f"target_noise=True needs the Gaussian likelihood, got {type(model.likelihood).__name__}"
        return None

    def loss_needs(self) -> list[str]:
        """Bootstrap weights and target noise belong to the rows of a whole data set."""
        return [f"kind={self.kind!r}"] * (self.kind == "bootstrap") + ["target_noise=True"] * self.target_noise

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """Every member once."""
        return min(self.members, particles)

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """Anchored members start at their anchors, others at re-initialised weights."""
        size = replicas * self.members
        if self.kind == "anchored":
            params, points = model.initial_from_prior(size, generator)
            params = params * self.temperature**0.5
            return {"params": params.clone(), "points": points, "anchors": params}
        params, points = model.initial(size, generator)
        if self.kind != "prior":
            return {"params": params, "points": points}
        return {"params": params, "points": points, "priors": model.initial(size, generator, own=False)[0]}

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Draw what this fit's data need: bootstrap weights or target noise."""
        super().begin(state, target, generator)
        if self.loss_needs() and not target.whole:
            raise UserError(f"{', '.join(self.loss_needs())} needs the whole data set at once: call fit(x, y)")
        members, y = state["params"].shape[0], target.all.y
        if self.kind == "bootstrap":
            index = torch.randint(target.rows, (members, target.rows), generator=generator, device=y.device)
            counts = torch.zeros(members, target.rows, dtype=state["params"].dtype, device=y.device)
            state["counts"] = counts.scatter_add_(1, index, torch.ones_like(counts))
        if self.target_noise:
            shape = (members, target.rows, y.shape[-1])
            errors = torch.randn(shape, generator=generator, device=y.device, dtype=y.dtype)
            factors = target.noise_factors(members)
            state["errors"] = errors if factors is None else errors * factors

    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """The potential of the kind, (S,)."""
        params, points = state["params"], state["points"]
        f = batch.outputs(params, points)
        if self.kind == "prior":
            f = f + self.beta * batch.outputs(state["priors"], points.detach())
        counts = batch.select(state["counts"]) if self.kind == "bootstrap" else None
        if self.target_noise:
            fit = self._perturbed_fit(state, batch, f)
        else:
            fit = batch.log_likelihood(f, points, weights=counts)
        return -(fit + batch.log_prior(params, points, state.get("anchors"))) / self.temperature

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` members, spread evenly."""
        index = spread(state["params"].shape[0], size, generator)
        draw = model.functions(state["params"][index], state["points"][index])
        if self.kind != "prior":
            return draw
        return add_draws(draw, model.functions(state["priors"][index], state["points"][index]), self.beta)

    def _perturbed_fit(self, state: State, batch: Batch, f: Tensor) -> Tensor:
        """Weights see perturbed targets, noise parameters the targets as they are."""
        points = state["points"]
        likelihood, raw = batch.model.likelihood, batch.model.split_points(points)[0]
        sigma = likelihood.constrain(raw).detach().unsqueeze(-2) * self.temperature**0.5
        errors = batch.select(state["errors"], axis=1)
        own = batch.targets_of(f.shape[0])
        weights_part = batch.log_likelihood(f, points.detach(), y=own + sigma * errors)
        noise_part = batch.log_likelihood(f.detach(), points)
        return weights_part + noise_part - noise_part.detach()
