"""Bayes by backprop: variational inference with reparameterised gradients.

Descends, for q the variational posterior over the weights,

    F = -E_q[ sum_i log p(y_i | x_i, theta) ] + T KL(q || prior)              theta = g(e; variational), e ~ p(e),

in nats over all N rows, by Adam (Blundell et al. 2015, "Weight uncertainty in neural networks", eq. 1-3). The
temperature scales the KL: the optimum approximates the posterior p(y | x, theta)^(1/T) p(theta) / Z. The expectation is
sampled by plain reparameterisation, by local reparameterisation (Kingma, Salimans & Welling 2015) or by flipout (Wen et
al. 2018). Samples come in mirrored pairs (antithetic): what is linear in the noise cancels in the gradient of the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.draws import Draw, spread
from dynapilco.inference.estimators import ESTIMATORS
from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import (
    MOST_SETS,
    Metrics,
    State,
    register_inference,
    require_at_least,
    require_one_of,
    require_positive,
)
from dynapilco.inference.posteriors import Normal, Posterior, kl_divergence, make_posterior
from dynapilco.inference.target import Batch, BayesianModel


@register_inference("bbb", "bayes_by_backprop", "vi")
@dataclass(frozen=True)
class BayesByBackprop(LossMethod):
    """Hyper-parameters of variational inference; see also ``InferenceMethod`` and ``LossMethod``.

    Attributes
    ----------
    samples : int
        Weight samples of a step; an even number makes mirrored pairs.
    posterior : str or Posterior
        ``"normal"`` (mean field), ``"student_t"``, ``"low_rank_normal"``, ``"full_normal"`` or a registered one.
    posterior_kwargs : mapping
        Its options, when it is given by name.
    estimator : str
        ``"reparameterised"``, ``"local"`` or ``"flipout"``; the last two need ``posterior="normal"``.
    initial_scale : float
        Standard deviation of q before training, in units of 1 / sqrt(fan-in), at most the prior's.
    """

    cold_steps: int = 3000
    warm_steps: int = 1500
    samples: int = 2
    posterior: str | Posterior = "normal"
    posterior_kwargs: Mapping[str, Any] = field(default_factory=dict)
    estimator: str = "reparameterised"
    initial_scale: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "samples")
        require_positive(self, "initial_scale")
        require_one_of(self, "estimator", tuple(ESTIMATORS))
        if not isinstance(self.family, Normal) and self.estimator != "reparameterised":
            raise UserError(
                f"estimator={self.estimator!r} needs posterior='normal' (mean field), got posterior={self.posterior!r}"
            )

    @cached_property
    def family(self) -> Posterior:
        """The variational family."""
        return make_posterior(self.posterior, **self.posterior_kwargs)

    @property
    def trainable_names(self) -> tuple[str, ...]:
        """Location and points, and what the family adds."""
        return ("params", "points", *self.family.tensors)

    def refusal(self, model: BayesianModel) -> str | None:
        """A family may be too large for the model."""
        return self.family.refusal(model.network.layout.total)

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """The module's own initial weights (further members re-initialised) under a small spread."""
        params, points = model.initial(replicas * self.members, generator)
        return {"points": points, **self.family.init(params, self._initial_std(model).to(params), generator)}

    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """F as ``samples`` weight samples estimate it, less the weak prior of noise parameters, (S,)."""
        points, model = state["points"], batch.model
        f, theta = ESTIMATORS[self.estimator](self.family, state, batch, self.samples, generator)
        repeated = points if self.samples == 1 else points.repeat_interleave(self.samples, 0)
        fit = batch.log_likelihood(f, repeated).view(-1, self.samples).mean(-1)
        noise = model.likelihood.log_prior(model.split_points(points)[0])
        return batch.temperature * self._kl(model, state, generator, theta) - fit - noise

    def kl(self, model: BayesianModel, state: State, generator: torch.Generator) -> Tensor:
        """KL(q || prior), (S,), nats: in closed form where one is registered, else by Monte Carlo."""
        return self._kl(model, state, generator, None)

    def _kl(self, model: BayesianModel, state: State, generator: torch.Generator, theta: Tensor | None) -> Tensor:
        layout = model.network.layout
        return kl_divergence(self.family, state, model.prior, layout, generator=generator, theta=theta)

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` independent weight samples, spread evenly over the members."""
        theta, points, _ = self.weights(state, size, generator)
        return model.functions(theta, points)

    def weights(self, state: State, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Weight samples (size, n), their points (size, k + m) and their log densities log q, (size,)."""
        members = state["params"].shape[0]
        index = spread(members, size, generator)
        theta = self.family.sample(state, -(-size // members), generator).detach()
        turn = torch.arange(size, device=index.device) // members
        density = self.family.log_prob(state, theta).detach()
        return theta[index, turn], state["points"][index], density[index, turn]

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """All different, at most ``most``."""
        return min(particles, most)

    def metrics(self, state: State) -> Metrics:
        """Mean standard deviation of a weight."""
        return {"posterior_std": float(self.family.std(state).mean())}

    def _initial_std(self, model: BayesianModel) -> Tensor:
        layout = model.network.layout
        fans = [shape[1:].numel() if len(shape) > 1 else 1 for shape in layout.shapes]
        pairs = zip(layout.sizes, fans, strict=True)
        spans = torch.cat([torch.full((size,), fan**-0.5) for size, fan in pairs])
        return self.initial_scale * torch.minimum(spans, model.prior.std(layout).to(spans))
