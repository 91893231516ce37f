"""Random features: hidden layers from the prior, the last layer exactly, relevances and noise by evidence.

Member m is a network whose hidden weights are a sample of their prior and stay there. Given them the network is linear
in its last layer, whose posterior is normal; a sample of it is (randomise, then optimise)

    v_m = v0 + (Phi^T W Phi / sigma^2 + V^-1)^-1 Phi^T W (y + sigma W^-1/2 e - Phi v0) / sigma^2,   v0 ~ N(0, V), e ~ N(0, 1)

(Matthews et al. 2017, "Sample-then-optimize posterior sampling for Bayesian linear models"; random features: Rahimi &
Recht 2007). As layers widen, hidden weights learn less and less from data and this becomes exact: members are then
samples of the Gaussian process that a wide network is (Neal 1996; Williams 1998). What narrow networks lack is knowledge of
which inputs matter. So each input has a relevance r_i (f(x) = net(r * x)), each output a scale s_o of V and a noise
sigma_o, found before by maximising the marginal likelihood of the wide network (MacKay 1992; automatic relevance
determination: Neal 1996):

    r, s, sigma = argmin -log N(y; 0, s^2 K_r + sigma^2 I) - log p(r, s, sigma)

That is what the updates of a fit do; the last layers are solved at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import adam_begin, adam_step, cosine_rate
from dynapilco.inference.draws import Draw
from dynapilco.inference.draws.trunk import check_last_layer, last_layer, last_layer_refusal
from dynapilco.inference.evidence import LastLayer, negative_log_evidence, solve, wide_kernel
from dynapilco.inference.likelihoods import Gaussian
from dynapilco.inference.method import (
    MOST_SETS,
    Clock,
    InferenceMethod,
    Metrics,
    State,
    register_inference,
    require_at_least,
    require_positive,
)
from dynapilco.inference.target import Batch, BayesianModel, Target

HYPERPARAMETERS = ("log_relevance", "log_scale", "raw_noise")

KERNEL_MEMBERS = 8
"""Members whose features stand for a wide network, where there is no closed form."""


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
    spread : float
        Prior standard deviation of the logarithms of relevances and scales. Smaller is more cautious on few rows.
    evidence_rows : int
        Rows that the evidence looks at, evenly spaced where there are more: its cost grows with their cube. The last
        layers are always solved on all rows.
    """

    members: int = 40
    cold_steps: int = 150
    warm_steps: int = 80
    learning_rate: float = 0.1
    spread: float = 2.0
    evidence_rows: int = 256

    full_batch: ClassVar[bool] = True
    suggested_hidden: ClassVar[tuple[int, ...]] = (300,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "learning_rate", "spread")
        require_at_least(self, 2, "evidence_rows")

    def refusal(self, model: BayesianModel) -> str | None:
        """A posterior of the last layer that is not normal, or a last layer that cannot be told apart."""
        if not isinstance(model.likelihood, Gaussian):
            return f"needs the Gaussian likelihood, got {type(model.likelihood).__name__}"
        if not model.prior.gaussian:
            return f"needs a normal prior, got {type(model.prior).__name__}"
        reason = last_layer_refusal(model.network)
        if reason is None and f"{last_layer(model.network.module)}.weight".lstrip(".") not in model.network.layout.names:
            return "the weights of the last layer are excluded"
        return reason

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """Every member once."""
        return min(self.members, particles)

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """Networks drawn from the prior; all inputs equally relevant. Hyper-parameters have a row for each data set."""
        self.check(model)
        params, points = model.initial_from_prior(replicas * self.members, generator)
        inputs = 0 if wide_kernel(model.network, model.prior) is None else model.network.widths[0]
        return {
            "params": params.clone(),
            "points": points,
            "anchors": params,
            "log_relevance": params.new_zeros(replicas, inputs),
            "log_scale": params.new_zeros(replicas, model.outputs),
            "raw_noise": model.split_points(points)[0][:: self.members].clone(),
        }

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Zero Adam's moments; check that all rows are here and that the last layer makes the output."""
        if not target.whole:
            raise UserError("inference 'random_features' needs the whole data set at once: call fit(x, y)")
        model, x = target.model, target.all.x
        first = x[0] if target.all.row_axis else x
        check_last_layer(model.network, model.full(state["params"][:1], state["points"][:1]), first[:2])
        if not state["log_relevance"].shape[-1]:
            state["kernel"] = torch.stack([self._sampled_kernel(state, target, r) for r in range(target.sets)])
        adam_begin(state, HYPERPARAMETERS)

    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """One update of relevances, scales and noises; returns the negative log evidence scaled to all rows, (S,)."""
        leaves = {name: state[name].detach().requires_grad_(True) for name in HYPERPARAMETERS if state[name].numel()}
        with torch.enable_grad():
            values = torch.stack([self._objective({**state, **leaves}, batch, r) for r in range(len(state["log_scale"]))])
            gradients = torch.autograd.grad(values.sum(), list(leaves.values()))
        adam_step(state, dict(zip(leaves, gradients, strict=True)), cosine_rate(self.learning_rate, clock.done, clock.steps))
        noise = state["raw_noise"].repeat_interleave(self._each(state), 0)
        state["points"][:, : noise.shape[-1]] = noise
        return values.detach().to(state["params"].dtype).repeat_interleave(self._each(state))

    @torch.no_grad()
    def finish(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Solve every last layer on all rows."""
        state.pop("kernel", None)
        each = self._each(state)
        for r in range(target.sets):
            members = slice(r * each, (r + 1) * each)
            self._solve(state, target, r, members, generator)

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` members, spread evenly, of inputs that are multiplied by their relevances."""
        draw = super().draw(model, state, size, generator)
        relevance = state["log_relevance"][0].exp()
        return draw.fold((relevance, torch.zeros_like(relevance))) if relevance.numel() else draw

    def metrics(self, state: State) -> Metrics:
        """Range of the relevances."""
        relevance = state["log_relevance"].exp()
        if not relevance.numel():
            return {}
        return {"relevance_min": float(relevance.min()), "relevance_max": float(relevance.max())}

    # -- parts --------------------------------------------------------------------------------------------------

    def _each(self, state: State) -> int:
        """Members of a data set."""
        return state["params"].shape[0] // state["log_scale"].shape[0]

    def _objective(self, state: State, batch: Batch, r: int) -> Tensor:
        """-log p(y) - log p(hyper-parameters) of data set r, scaled up to all of its rows."""
        model, rows = batch.model, self._rows(batch)
        x, y, weights = (_own(t, r, batch.row_axis, rows) for t in (batch.x, batch.y, batch.weights))
        assert x is not None and y is not None
        log_relevance, log_scale = state["log_relevance"][r].double(), state["log_scale"][r].double()
        if "kernel" in state:
            kernel = state["kernel"][r].double()
        else:
            wide = wide_kernel(model.network, model.prior)
            assert wide is not None
            kernel = wide(x.double() * log_relevance.exp())
        noise = model.likelihood.constrain(state["raw_noise"][r : r + 1])[0].double().expand(y.shape[-1])
        weights = None if weights is None else weights.double()
        evidence = negative_log_evidence(kernel, y.double(), log_scale.exp(), noise, weights).sum()
        prior = (log_relevance.square().sum() + log_scale.square().sum()) / (2 * self.spread**2)
        prior = prior - model.likelihood.log_prior(state["raw_noise"][r : r + 1]).double().sum()
        return evidence * (batch.rows / len(rows)) + prior

    def _rows(self, batch: Batch) -> Tensor:
        """Row numbers that the evidence looks at."""
        return torch.linspace(0, batch.rows - 1, min(batch.rows, self.evidence_rows)).round().long()

    def _sampled_kernel(self, state: State, target: Target, r: int) -> Tensor:
        """Where the wide network has no closed form: the mean over members of what their features say, (M, M)."""
        batch, each = target.all, self._each(state)
        layer, members = LastLayer.of(target.model), slice(r * each, r * each + min(each, KERNEL_MEMBERS))
        x = _own(batch.x, r, batch.row_axis, self._rows(batch))
        assert x is not None
        full = target.model.full(state["anchors"][members], state["points"][members])
        std = layer.weights(target.model.prior.std(target.model.network.layout).to(full).unsqueeze(0))[0].double()
        features = torch.cat([f for f, _ in layer.chunks(full, x, full.new_zeros(0))], 1) * std.square().mean(0).sqrt()
        return (features @ features.transpose(1, 2)).mean(0)

    def _solve(self, state: State, target: Target, r: int, members: slice, generator: torch.Generator) -> None:
        model, batch, everything = target.model, target.all, slice(None)
        layer = LastLayer.of(model)
        x, y, weights = (_own(t, r, batch.row_axis, everything) for t in (batch.x, batch.y, batch.weights))
        assert x is not None and y is not None
        full, heat = model.full(state["anchors"][members], state["points"][members]), self.temperature**0.5
        noise = model.likelihood.constrain(state["raw_noise"][r : r + 1])[0].double().expand(y.shape[-1])
        prior = model.prior.std(model.network.layout).to(full.device).unsqueeze(0)
        scale = state["log_scale"][r].double().exp().unsqueeze(-1)
        std = layer.weights(prior)[0].double() * scale
        anchors = layer.weights(state["anchors"][members]).double() * scale * heat
        y = y.double() - layer.offset(full).double().unsqueeze(-2)
        gram, moment = 0.0, 0.0
        for features, rows in layer.chunks(full, x, state["log_relevance"][r].exp()):
            errors = torch.randn(len(full), features.shape[1], y.shape[-1], generator=generator, device=y.device)
            w = y.new_ones(features.shape[1], 1) if weights is None else weights[rows].double().unsqueeze(-1)
            weighted = features * w
            seen = y[..., rows, :] + noise * heat * errors.double() * torch.where(w > 0, w.clamp_min(1e-12).rsqrt(), 0.0)
            gram = gram + weighted.transpose(1, 2) @ features
            moment = moment + weighted.transpose(1, 2) @ seen
        params = state["params"].detach()
        found = state["anchors"][members].clone()
        layer.put(found, solve(gram, moment, std, noise, anchors).to(found.dtype))
        params[members] = found


def _own(tensor: Tensor | None, r: int, axis: int, rows: Tensor | slice) -> Tensor | None:
    """The rows of data set r: tensor (N, ...) shared by all, or (R, N, ...) where ``axis`` is 1."""
    if tensor is None:
        return None
    own = tensor[r] if axis and tensor.dim() > 1 else tensor
    return own[rows]
