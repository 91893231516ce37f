"""Concrete dropout: the rate of every layer is learned.

With z a mask over the units that a layer reads, p its rate, H the entropy of a Bernoulli variable, descends

    F = -E_z[ sum_i log p(y_i | x_i, theta) ] + T KL,                                    theta = w z / (1 - p),
    KL = sum_layers |w|^2 / (2 s^2 (1 - p)) - sum_units H(p) + const                     (prior N(0, s^2)),

in nats over all N rows, by Adam on w and logit p (Gal, Hron & Kendall 2017, "Concrete dropout", eq. 1-5). In training z
is relaxed: 1 - z = sigmoid((logit p + logit u) / t). Draws take hard masks. See ``dropout.sites`` for where units are
dropped in any module and ``dropout.penalty`` for other priors; weights that are dropped nowhere pay -log prior(w).

The optimum is p / (1 - p) ~ exp(-cost of dropping a unit, nats), and that cost grows with N: with many rows or little
noise p falls to 0 and no uncertainty is left, with few noisy rows it rises to 1/2. ``lowest_rate`` bounds the family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.dropout import DropoutMethod, DropoutSites, concrete_masks, cross_entropy, entropy
from dynapilco.inference.method import Metrics, State, register_inference, require_positive
from dynapilco.inference.target import Batch, BayesianModel


@register_inference("concrete_dropout")
@dataclass(frozen=True)
class ConcreteDropout(DropoutMethod):
    """Hyper-parameters of concrete dropout; see also ``DropoutMethod``.

    Attributes
    ----------
    initial_rate : float
        p of every site before training, in (lowest_rate, 1).
    lowest_rate : float
        p = lowest_rate + (1 - lowest_rate) sigmoid(r), with r learned; 0 is the paper.
    relaxation : float
        t, the temperature of the relaxed masks.
    """

    cold_steps: int = 4000
    warm_steps: int = 3000
    initial_rate: float = 0.02
    lowest_rate: float = 0.01
    relaxation: float = 0.1

    trainable: ClassVar[tuple[str, ...]] = ("params", "points", "rate_logits")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "relaxation")
        if not 0 <= self.lowest_rate < 1:
            raise UserError(f"lowest_rate={self.lowest_rate!r}: expected a number in [0, 1)")
        if not self.lowest_rate < self.initial_rate < 1:
            raise UserError(f"initial_rate={self.initial_rate!r}: expected a number in ({self.lowest_rate}, 1)")

    def refusal(self, model: BayesianModel) -> str | None:
        """Needs units to drop, and a prior with a finite density at 0."""
        layout = model.network.layout
        zero = model.network.own_parameters().new_zeros(1, layout.total)
        if not bool(torch.isfinite(model.prior.log_prob(zero, layout)).all()):
            return f"the density of the prior {type(model.prior).__name__} at 0, where dropped weights lie, is infinite"
        return super().refusal(model)

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """The module's own initial weights (further members re-initialised), all rates equal."""
        params, points = model.initial(replicas * self.members, generator)
        start = math.log(self.initial_rate - self.lowest_rate) - math.log1p(-self.initial_rate)
        logits = params.new_full((params.shape[0], len(self.sites(model).sites)), start)
        return {"params": params, "points": points, "rate_logits": logits}

    def rates(self, state: State, sites: DropoutSites) -> Sequence[Tensor]:
        """The learned rates, (S, 1) for each site."""
        return list(self.logits(state).detach().sigmoid().split(1, dim=-1))

    def logits(self, state: State) -> Tensor:
        """Logit of each rate, log p - log(1 - p), (S, sites)."""
        raw = state["rate_logits"]
        least = raw.new_tensor(self.lowest_rate).log()  # p / (1 - p) = (lowest + exp r) / (1 - lowest)
        return torch.logaddexp(least, raw) - math.log1p(-self.lowest_rate)

    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """F as relaxed masks estimate it, less the weak prior of noise parameters, (S,)."""
        params, points = state["params"], state["points"]
        logits = self.logits(state).unsqueeze(-1).split(1, dim=1)  # (S, 1, 1) each

        def masks(sites: DropoutSites, lead: Sequence[int]) -> tuple[Tensor, ...]:
            return concrete_masks(logits, sites.widths, lead, generator, self.relaxation)

        fit = self.expected_fit(batch, params, points, masks)
        noise = batch.model.likelihood.log_prior(batch.model.split_points(points)[0])
        return self.temperature * self.penalty(batch.model, state) - fit - noise

    def penalty(self, model: BayesianModel, state: State) -> Tensor:
        """KL up to a constant, (S,), nats."""
        params, logits = state["params"], self.logits(state)
        sites = self.sites(model, params.device)
        crossed = cross_entropy(model.prior, model.network.layout, sites, params, logits.sigmoid())
        return crossed - entropy(sites, logits)

    def metrics(self, state: State) -> Metrics:
        """The learned rate of each site, averaged over members."""
        rates = self.logits(state).detach().sigmoid().mean(0)
        return {f"rate_{number}": float(rate) for number, rate in enumerate(rates)}
