"""Random features: hidden layers from the prior, the last layer exactly, relevances and noise by evidence.

Member m is a network whose hidden weights are a sample of their prior and stay there. Given them the network is linear
in its last layer, whose posterior is normal; a sample of it is (randomise, then optimise)

    v_m = argmin |y + sigma e - Phi v|^2 / sigma^2 + |(v - v0) / V^1/2|^2,     v0 ~ N(0, V), e ~ N(0, 1)

(Matthews et al. 2017, "Sample-then-optimize posterior sampling for Bayesian linear models"; random features: Rahimi &
Recht 2007). As layers widen, hidden weights learn less and less from data and this becomes exact: members are then
samples of the Gaussian process that a wide network is (Neal 1996; Williams 1998).

Few rows are enough only if it is known which inputs matter. So the hidden units fall into groups; each group g has a
relevance r_g of each input (the first layer's weights are multiplied by it) and a scale s_og for each output, which has
a noise sigma_o. They maximise the marginal likelihood of the wide network (MacKay 1992; automatic relevance
determination: Neal 1996), which is what the updates of a fit do; the last layers are solved at its end:

    r, s, sigma = argmin sum_o -log N(y_o; 0, sum_g s_og^2 K_{r_g} + sigma_o^2 I) - log p(r, s, sigma)

Logits of yes-or-no targets (Bernoulli, also in a Joint) have no noise and no closed form: their evidence, and the
posterior of their last layers, are Laplace's approximations (``evidence/logistic.py``, ``evidence/logit_layer.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference import evidence
from dynapilco.inference.adam import adam_begin, adam_step, cosine_rate
from dynapilco.inference.draws.trunk import check_last_layer
from dynapilco.inference.method import (
    MOST_SETS,
    Clock,
    InferenceMethod,
    Metrics,
    State,
    register_inference,
    require_at_least,
    require_positive,
    require_whole,
)
from dynapilco.inference.target import Batch, BayesianModel, Target


@register_inference("random_features", "evidence")
@dataclass(frozen=True)
class RandomFeatures(InferenceMethod):
    """Hyper-parameters of random features; see also ``InferenceMethod``.

    Attributes
    ----------
    cold_steps, warm_steps : int
        Updates of the relevances, scales and noises: few, for there are few of them.
    learning_rate : float
        Of Adam on their logarithms, with a cosine.
    groups : int
        G, groups of hidden units with relevances of their own, at most one for each output; more than one hidden layer,
        or a network without a closed form, has a single group.
    evidence : bool
        Learn relevances and scales; False leaves them at 1 (only the noise is learned then).
    spread : float
        Prior standard deviation of the logarithms of relevances and scales. Smaller is more cautious on few rows.
    evidence_rows : int
        Rows that the evidence looks at, evenly spaced where there are more (it is then scaled up to all rows): its
        cost grows with their cube. The last layers are always solved on all rows.
    """

    members: int = 40
    cold_steps: int = 400
    warm_steps: int = 150
    learning_rate: float = 0.1
    groups: int = 4
    evidence: bool = True
    spread: float = 2.0
    evidence_rows: int = 256

    full_batch: ClassVar[bool] = True
    suggested_hidden: ClassVar[tuple[int, ...]] = (300,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "learning_rate", "spread")
        require_whole(self, "groups", "evidence_rows")
        require_at_least(self, 1, "groups")
        require_at_least(self, 2, "evidence_rows")
        if self.batch_size is not None:
            raise UserError(f"batch_size={self.batch_size!r}: random_features sees all rows at once; give None")
        if not isinstance(self.evidence, bool):
            raise UserError(f"evidence={self.evidence!r}: expected True or False")

    def refusal(self, model: BayesianModel) -> str | None:
        """Targets that are neither normal nor yes-or-no, or a last layer that cannot be told apart."""
        return evidence.refusal(model)

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """Every member once."""
        return min(self.members, particles)

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """Networks drawn from the prior; hyper-parameters have a row for each data set."""
        self.check(model)
        params, points = model.initial_from_prior(replicas * self.members, generator)
        hyper = evidence.initial_hyper(model, points, replicas, self.groups, learned=self.evidence)
        return {"params": params.clone(), "points": points, "anchors": params, **hyper}

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Zero Adam's moments; check that all rows are here and that the last layer makes the output."""
        if not target.whole:
            raise UserError("inference 'random_features' needs the whole data set at once: call fit(x, y)")
        model, rows = target.model, evidence.Rows.of(target.all, 0, most=2)
        check_last_layer(model.network, model.full(state["params"][:1], state["points"][:1]), rows.x)
        if not state["log_relevance"].shape[-1]:
            state["kernels"] = evidence.sampled_kernels(target, state["anchors"], state["points"], self.evidence_rows)
        state.update(evidence.first_modes(target, self.evidence_rows))
        adam_begin(state, evidence.NAMES)

    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """One update of relevances, scales and noises; returns the negative log evidence scaled to all rows, (S,)."""
        learned = evidence.NAMES if self.evidence else ("raw_noise",)
        values, gradients = evidence.gradients(state, batch, learned, self.evidence_rows, self.spread)
        adam_step(state, gradients, cosine_rate(self.learning_rate, clock.done, clock.steps))
        each = state["params"].shape[0] // len(values)
        noise = state["raw_noise"].repeat_interleave(each, 0)
        state["points"][:, : noise.shape[-1]] = noise
        return values.to(state["params"].dtype).repeat_interleave(each)

    def finish(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Solve every last layer on all rows."""
        state.pop("kernels", None)
        state.pop("modes", None)
        each = state["params"].shape[0] // target.sets
        for r in range(target.sets):
            rows, hyper = evidence.Rows.of(target.all, r), evidence.hyper_of(state, r)
            own = slice(r * each, (r + 1) * each)
            anchors, points = state["anchors"][own], state["points"][own]
            found = evidence.solved_members(target.model, rows, anchors, points, hyper, self.temperature, generator)
            state["params"].detach()[own] = found

    def metrics(self, state: State) -> Metrics:
        """Range of the relevances."""
        relevance = state["log_relevance"].exp()
        if not relevance.numel():
            return {}
        return {"relevance_min": float(relevance.min()), "relevance_max": float(relevance.max())}
