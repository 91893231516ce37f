"""Members of a fit: hidden layers from the prior made relevant, last layers solved."""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.inference.evidence.kinds import Kinds
from dynapilco.inference.evidence.last_layer import LastLayer, solve
from dynapilco.inference.evidence.logit_layer import sampled_logits
from dynapilco.inference.evidence.objective import Hyper
from dynapilco.inference.evidence.rows import Rows
from dynapilco.inference.target import BayesianModel

MATRIX_NUMBERS = 10_000_000
"""Numbers (80 MB) in the matrices that are solved at once."""


@torch.no_grad()
def solved_members(
    model: BayesianModel,
    rows: Rows,
    anchors: Tensor,
    points: Tensor,
    hyper: Hyper,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """Parameters (S, n) of members whose last layers are posterior samples given their hidden layers.

    Parameters
    ----------
    model : BayesianModel
    rows : Rows
        All rows of the data set.
    anchors : Tensor
        Samples of the prior, (S, n): hidden layers, and the last layers that ``solve`` pulls towards.
    points : Tensor
        (S, k + m).
    hyper : Hyper
    temperature : float
    generator : torch.Generator
        Of the noise on the targets.
    """
    layer = LastLayer.of(model)
    block = max(1, MATRIX_NUMBERS // layer.weights(anchors[:1]).shape[-1] ** 2)  # matrices take memory
    parts = [
        _solved(layer, rows, anchors[i : i + block], points[i : i + block], hyper, temperature**0.5, generator)
        for i in range(0, len(anchors), block)
    ]
    return torch.cat(parts)


def _solved(
    layer: LastLayer,
    rows: Rows,
    anchors: Tensor,
    points: Tensor,
    hyper: Hyper,
    heat: float,
    generator: torch.Generator,
) -> Tensor:
    model, (log_relevance, log_scale, raw) = layer.model, hyper
    params = relevant(model, anchors, log_relevance)
    full = model.full(params, points)
    kinds = Kinds.of(model.likelihood, model.outputs)
    assert kinds is not None
    prior = layer.prior_std().to(full.device)
    std = scaled_std(prior, log_scale.double().exp(), int(layer.has_bias))
    solved = torch.empty_like(layer.weights(params), dtype=torch.float64)
    if kinds.normal:
        solved[:, kinds.normal] = _normal(layer, rows, params, full, std, prior, kinds.normal, raw, heat, generator)
    for o in kinds.binary:
        solved[:, o] = sampled_logits(layer, rows, full, o, std[o], heat, generator)
    layer.put(params, solved.to(params.dtype))
    return params


def _normal(
    layer: LastLayer,
    rows: Rows,
    params: Tensor,
    full: Tensor,
    std: Tensor,
    prior: Tensor,
    columns: list[int],
    raw: Tensor,
    heat: float,
    generator: torch.Generator,
) -> Tensor:
    """Last layers (S, C, H) of the outputs ``columns``, which have Gaussian noise."""
    noise = layer.model.likelihood.constrain(raw)[0].double().expand(len(columns))
    pull = (layer.weights(params).double() * (std / prior) * heat)[:, columns]
    y = (rows.y.double() - layer.offset(full).double().unsqueeze(-2))[..., columns]
    std = std[columns]
    gram = full.new_zeros(len(full), std.shape[-1], std.shape[-1], dtype=torch.float64)
    moment = full.new_zeros(len(full), std.shape[-1], y.shape[-1], dtype=torch.float64)
    for features, part in layer.chunks(full, rows.x):
        shape = (len(full), features.shape[1], y.shape[-1])
        errors = torch.randn(shape, generator=generator, device=y.device, dtype=params.dtype)
        w = y.new_ones(features.shape[1], 1) if rows.weights is None else rows.weights[part].double().unsqueeze(-1)
        own = noise * heat * torch.where(w > 0, w.clamp_min(1e-12).rsqrt(), 0.0)
        weighted = (features * w).transpose(1, 2)
        gram += weighted @ features
        moment += weighted @ (y[..., part, :] + own * errors.double())
    return solve(gram, moment, std, noise, pull)


def relevant(model: BayesianModel, params: Tensor, log_relevance: Tensor) -> Tensor:
    """A copy of params (S, n) with the first layer's weights multiplied by the relevances (G, D) of their group."""
    params = params.clone()
    if log_relevance.shape[-1] and model.network.dense_plan is not None:
        layout, name = model.network.layout, f"{model.network.dense_plan[0][0]}.weight"
        place, shape = layout.slices()[name], dict(zip(layout.names, layout.shapes, strict=True))[name]
        relevance = log_relevance.exp()[group_of(shape[0], len(log_relevance)).to(log_relevance.device)]
        params[:, place] = params[:, place] * relevance.flatten()
    return params


def scaled_std(prior: Tensor, scale: Tensor, biases: int) -> Tensor:
    """Prior standard deviations (O, H + biases) times the scale (O, G) of each unit's group, biases as they are."""
    width = prior.shape[-1] - biases
    own = scale[:, group_of(width, scale.shape[-1]).to(scale.device)]
    return torch.cat([prior[:, :width] * own, prior[:, width:]], -1)


def group_of(width: int, groups: int) -> Tensor:
    """The group of each of ``width`` units: neighbours, in parts as equal as can be."""
    return torch.arange(width) * groups // width
