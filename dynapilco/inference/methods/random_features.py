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
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import adam_begin, adam_step, cosine_rate
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
    require_whole,
)
from dynapilco.inference.target import Batch, BayesianModel, Target

HYPERPARAMETERS = ("log_relevance", "log_scale", "raw_noise")

BORROWED = 0.1
"""Scale at which an output begins to use the units of another output's group."""

MATRIX_NUMBERS = 10_000_000
"""Numbers (80 MB) in the matrices that are solved at once."""

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
    groups : int
        G, groups of hidden units with relevances of their own, at most one for each output; more than one hidden layer,
        or a network without a closed form, has a single group.
    evidence : bool
        Learn relevances and scales; False leaves them at 1 (only the noise is learned then).
    spread : float
        Prior standard deviation of the logarithms of relevances and scales. Smaller is more cautious on few rows.
    evidence_rows : int
        Rows that the evidence looks at, evenly spaced where there are more: its cost grows with their cube. The last
        layers are always solved on all rows.
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
        inputs, groups = self._structure(model)
        own = torch.arange(model.outputs).remainder(groups).unsqueeze(-1) == torch.arange(groups)
        log_scale = torch.where(own, 0.0, math.log(BORROWED) if self.evidence else 0.0).to(params)
        return {
            "params": params.clone(),
            "points": points,
            "anchors": params,
            "log_relevance": params.new_zeros(replicas, groups, inputs),
            "log_scale": log_scale.expand(replicas, -1, -1).clone(),
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
        names = [name for name in self._learned if state[name].numel()]
        leaves = {name: state[name].detach().requires_grad_(True) for name in names}
        with torch.enable_grad():
            values = torch.stack([self._objective({**state, **leaves}, batch, r) for r in range(len(state["log_scale"]))])
            gradients = torch.autograd.grad(values.sum(), list(leaves.values())) if leaves else ()
        rate = cosine_rate(self.learning_rate, clock.done, clock.steps)
        adam_step(state, dict(zip(leaves, gradients, strict=True)), rate)
        noise = state["raw_noise"].repeat_interleave(self._each(state), 0)
        state["points"][:, : noise.shape[-1]] = noise
        return values.detach().to(state["params"].dtype).repeat_interleave(self._each(state))

    @torch.no_grad()
    def finish(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Solve every last layer on all rows."""
        state.pop("kernel", None)
        for r in range(target.sets):
            self._solve(state, target, r, generator)

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

    @property
    def _learned(self) -> tuple[str, ...]:
        return HYPERPARAMETERS if self.evidence else HYPERPARAMETERS[2:]

    def _structure(self, model: BayesianModel) -> tuple[int, int]:
        """Inputs that have a relevance (0: none has), and groups."""
        widths = model.network.widths
        if len(widths) < 3 or wide_kernel(model.network, model.prior) is None:
            return 0, 1
        return widths[0], min(self.groups, model.outputs, widths[1]) if len(widths) == 3 else 1

    def _objective(self, state: State, batch: Batch, r: int) -> Tensor:
        """-log p(y) - log p(hyper-parameters) of data set r, scaled up to all of its rows."""
        model, rows = batch.model, self._rows(batch)
        x, y, weights = (_own(t, r, batch.row_axis, rows) for t in (batch.x, batch.y, batch.weights))
        assert x is not None and y is not None
        log_relevance, log_scale = state["log_relevance"][r].double(), state["log_scale"][r].double()
        if "kernel" in state:
            kernels = state["kernel"][r : r + 1]
        else:
            wide = wide_kernel(model.network, model.prior)
            assert wide is not None
            kernels = wide(x.double() * log_relevance.exp().unsqueeze(1)) / len(log_relevance)
        kernel = torch.einsum("og,gmn->omn", (2 * log_scale).exp(), kernels) + _bias_variance(model)
        noise = model.likelihood.constrain(state["raw_noise"][r : r + 1])[0].double().expand(y.shape[-1])
        weights = None if weights is None else weights.double()
        evidence = negative_log_evidence(kernel, y.double(), noise, weights).sum()
        prior = (log_relevance.square().sum() + log_scale.square().sum()) / (2 * self.spread**2)
        prior = prior - model.likelihood.log_prior(state["raw_noise"][r : r + 1]).double().sum()
        return evidence * (batch.rows / len(rows)) + prior

    def _rows(self, batch: Batch) -> Tensor:
        """Row numbers that the evidence looks at."""
        return torch.linspace(0, batch.rows - 1, min(batch.rows, self.evidence_rows)).round().long()

    def _sampled_kernel(self, state: State, target: Target, r: int) -> Tensor:
        """Where the wide network has no closed form: the mean over members of what their features say, (M, M)."""
        batch, each, model = target.all, self._each(state), target.model
        layer, members = LastLayer.of(model), slice(r * each, r * each + min(each, KERNEL_MEMBERS))
        x = _own(batch.x, r, batch.row_axis, self._rows(batch))
        assert x is not None
        full = model.full(state["anchors"][members], state["points"][members])
        std = _prior_std(layer).to(x.device)
        features = torch.cat([f for f, _ in layer.chunks(full, x)], 1) * std.square().mean(0).sqrt()
        features = features[..., : features.shape[-1] - layer.has_bias]
        return (features @ features.transpose(1, 2)).mean(0)

    def _solve(self, state: State, target: Target, r: int, generator: torch.Generator) -> None:
        """The last layers of data set r, some members at a time: their matrices take memory."""
        each, layer = self._each(state), LastLayer.of(target.model)
        width = layer.weights(state["anchors"][:1]).shape[-1]
        block = max(1, MATRIX_NUMBERS // width**2)
        for first in range(r * each, (r + 1) * each, block):
            members = slice(first, min(first + block, (r + 1) * each))
            state["params"].detach()[members] = self._solved(state, target, r, members, layer, generator)

    def _solved(
        self, state: State, target: Target, r: int, members: slice, layer: LastLayer, generator: torch.Generator
    ) -> Tensor:
        """Parameters (S, n) of ``members`` after the fit."""
        model, batch, heat = target.model, target.all, self.temperature**0.5
        x, y, weights = (_own(t, r, batch.row_axis, slice(None)) for t in (batch.x, batch.y, batch.weights))
        assert x is not None and y is not None
        params = self._relevant(model, state, r, state["anchors"][members])
        full = model.full(params, state["points"][members])
        noise = model.likelihood.constrain(state["raw_noise"][r : r + 1])[0].double().expand(y.shape[-1])
        prior, std = _prior_std(layer).to(full.device), self._last_std(layer, state, r)
        anchors = layer.weights(params).double() * (std / prior) * heat
        y = y.double() - layer.offset(full).double().unsqueeze(-2)
        gram = full.new_zeros(len(full), std.shape[-1], std.shape[-1], dtype=torch.float64)
        moment = full.new_zeros(len(full), std.shape[-1], y.shape[-1], dtype=torch.float64)
        for features, rows in layer.chunks(full, x):
            shape = (len(full), features.shape[1], y.shape[-1])
            errors = torch.randn(shape, generator=generator, device=y.device, dtype=params.dtype)
            w = y.new_ones(features.shape[1], 1) if weights is None else weights[rows].double().unsqueeze(-1)
            own = noise * heat * torch.where(w > 0, w.clamp_min(1e-12).rsqrt(), 0.0)
            weighted = (features * w).transpose(1, 2)
            gram += weighted @ features
            moment += weighted @ (y[..., rows, :] + own * errors.double())
        layer.put(params, solve(gram, moment, std, noise, anchors).to(params.dtype))
        return params

    def _relevant(self, model: BayesianModel, state: State, r: int, anchors: Tensor) -> Tensor:
        """A copy of anchors (S, n) with the first layer's weights multiplied by the relevances of their group."""
        params = anchors.clone()
        if state["log_relevance"].shape[-1] and model.network.dense_plan is not None:
            layout, name = model.network.layout, f"{model.network.dense_plan[0][0]}.weight"
            place, shape = layout.slices()[name], dict(zip(layout.names, layout.shapes, strict=True))[name]
            relevance = state["log_relevance"][r].exp()[group_of(shape[0], state["log_relevance"].shape[1])]
            params[:, place] = params[:, place] * relevance.flatten()
        return params

    def _last_std(self, layer: LastLayer, state: State, r: int) -> Tensor:
        """Prior standard deviations of the last layer's weights, (O, H [+ 1])."""
        std = _prior_std(layer).to(state["params"].device)
        width, scale = std.shape[-1] - layer.has_bias, state["log_scale"][r].double().exp()
        scale = scale[:, group_of(width, scale.shape[-1]).to(scale.device)]
        return torch.cat([std[:, :width] * scale, std[:, width:]], -1)


def group_of(width: int, groups: int) -> Tensor:
    """The group of each of ``width`` units: neighbours, in parts as equal as can be."""
    return torch.arange(width) * groups // width


def _bias_variance(model: BayesianModel) -> float:
    """Prior variance of the last layer's bias, 0 where it is not Bayesian."""
    layer = LastLayer.of(model)
    return float(_prior_std(layer)[:, -1].square().mean()) if layer.has_bias else 0.0


def _prior_std(layer: LastLayer) -> Tensor:
    """Prior standard deviations of the last layer's weights before they are scaled, (O, H [+ 1])."""
    model = layer.model
    return layer.weights(model.prior.std(model.network.layout).unsqueeze(0))[0].double()


def _own(tensor: Tensor | None, r: int, axis: int, rows: Tensor | slice) -> Tensor | None:
    """The rows of data set r: tensor (N, ...) shared by all, or (R, N, ...) where ``axis`` is 1."""
    if tensor is None:
        return None
    own = tensor[r] if axis and tensor.dim() > 1 else tensor
    return own[rows]
