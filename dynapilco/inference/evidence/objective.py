"""What the hyper-parameters of a data set descend: the negative log evidence of the wide network, and their prior.

The covariance of output o is sum_g s_og^2 K_{r_g} + b^2 + sigma_o^2 I: G groups of hidden units with relevances r_g of
their own, which multiply the inputs, and the variance b^2 of the last bias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynapilco.inference.evidence.kernel import output_shares, wide_kernel
from dynapilco.inference.evidence.kinds import Kinds
from dynapilco.inference.evidence.last_layer import LastLayer
from dynapilco.inference.evidence.logistic import negative_log_laplace
from dynapilco.inference.evidence.marginal import negative_log_evidence
from dynapilco.inference.evidence.rows import Rows
from dynapilco.inference.target import Batch, BayesianModel, Target

Hyper = tuple[Tensor, Tensor, Tensor]
"""Log relevances (G, D), log scales (O, G), and raw noise parameters (1, k) of the likelihood, of one data set."""

KERNEL_MEMBERS = 8
"""Members whose features stand for a wide network, where there is no closed form."""

BORROWED = 0.1
"""Scale at which an output begins to use the units of another output's group."""

LOGIT_SPREAD = 1.0
"""Prior standard deviation of the logarithm of a logit's scale, around where it begins. Of answers that a surface
divides without error the evidence likes any large scale as well as any other, and where there are no data a large one
says yes or no for certain, by chance."""


def structure(model: BayesianModel, groups: int) -> tuple[int, int]:
    """Inputs that have a relevance (0 where the wide network has no closed form), and groups of hidden units."""
    widths = model.network.widths
    if len(widths) < 3 or wide_kernel(model.network, model.prior) is None:
        return 0, 1
    return widths[0], min(groups, model.outputs, widths[1]) if len(widths) == 3 else 1


def first_log_scales(outputs: int, groups: int, *, learned: bool = True) -> Tensor:
    """Logarithms (O, G) of the scales at which outputs begin: outputs own a group where scales are learned."""
    own = torch.arange(outputs).remainder(groups).unsqueeze(-1) == torch.arange(groups)
    return torch.where(own, 0.0, math.log(BORROWED) if learned else 0.0)


def kernels_of(model: BayesianModel, rows: Rows, log_relevance: Tensor) -> Tensor:
    """Covariance that each group brings, (G, N, N), at relevances (G, D)."""
    wide = wide_kernel(model.network, model.prior)
    assert wide is not None
    return wide(rows.x.double() * log_relevance.exp().unsqueeze(1)) / len(log_relevance)


@torch.no_grad()
def sampled_kernels(target: Target, params: Tensor, points: Tensor, most: int) -> Tensor:
    """Where the wide network has no closed form: what the features of some members say, (R, 1, N, N).

    ``params`` (S, n) and ``points`` (S, k + m) are those of all members; N is at most ``most``.
    """
    layer, each, kernels = LastLayer.of(target.model), len(params) // target.sets, []
    for r in range(target.sets):
        some = slice(r * each, r * each + min(each, KERNEL_MEMBERS))
        full = target.model.full(params[some], points[some])
        features = torch.cat([f for f, _ in layer.chunks(full, Rows.of(target.all, r, most).x)], 1)
        std = layer.prior_std().to(full.device)
        features = features * (std / output_shares(std)).square().mean(0).sqrt()
        features = features[..., : features.shape[-1] - layer.has_bias]
        kernels.append((features @ features.transpose(1, 2)).mean(0, keepdim=True))
    return torch.stack(kernels)


def first_modes(target: Target, most: int) -> dict[str, Tensor]:
    """Where the search for the modes of logits starts: ``modes`` (R, C, N) for C binary columns, if there are any."""
    kinds = Kinds.of(target.model.likelihood, target.model.outputs)
    if kinds is None or not kinds.binary:
        return {}
    y = target.all.y
    rows = min(most, y.shape[target.all.row_axis])
    return {"modes": torch.zeros(target.sets, len(kinds.binary), rows, dtype=torch.float64, device=y.device)}


def potential(
    batch: Batch, r: int, kernels: Tensor | None, hyper: Hyper, most: int, spread: float, modes: Tensor | None = None
) -> Tensor:
    """What the hyper-parameters of data set r descend, scaled up to all rows where more than ``most`` are there; ()."""
    rows = Rows.of(batch, r, most)
    kernels = kernels_of(batch.model, rows, hyper[0].double()) if kernels is None else kernels
    evidence, prior = objective(batch.model, rows, kernels, hyper, spread, modes)
    return evidence * (batch.rows / len(rows.y)) + prior


def objective(
    model: BayesianModel, rows: Rows, kernels: Tensor, hyper: Hyper, spread: float, modes: Tensor | None = None
) -> Tensor:
    """-log p(y) of the rows, nats, and its companion -log p(hyper-parameters) up to a constant: (2,).

    Parameters
    ----------
    model : BayesianModel
    rows : Rows
        N rows.
    kernels : Tensor
        (G, N, N).
    hyper : Hyper
    spread : float
        Prior standard deviation of log relevances and log scales.
    modes : Tensor, optional
        Of binary columns, (C, N): see :func:`negative_log_laplace`.
    """
    log_relevance, log_scale, raw = hyper
    kinds, layer = Kinds.of(model.likelihood, model.outputs), LastLayer.of(model)
    assert kinds is not None
    kernel = torch.einsum("og,gmn->omn", (2 * log_scale.double()).exp(), kernels)
    weights, y = None if rows.weights is None else rows.weights.double(), rows.y.double()
    noise = model.likelihood.constrain(raw)[0].double().expand(len(kinds.normal))
    if not kinds.binary:
        evidence = negative_log_evidence(kernel + layer.bias_variance(), y, noise, weights).sum()
    else:
        kernel = kernel * output_shares(layer.prior_std()).square().to(kernel).unsqueeze(-1)
        modes = y.new_zeros(len(kinds.binary), len(y)) if modes is None else modes
        logits = kernel[kinds.binary] + layer.bias_variance(kinds.binary)
        evidence = negative_log_laplace(logits, y[:, kinds.binary], weights, modes).sum()
        if kinds.normal:
            rest = kernel[kinds.normal] + layer.bias_variance(kinds.normal)
            evidence = evidence + negative_log_evidence(rest, y[:, kinds.normal], noise, weights).sum()
    log_scale = log_scale.double()
    if kinds.binary:
        middle = first_log_scales(*log_scale.shape).to(log_scale)
        away = (log_scale - middle)[kinds.binary] * (spread / LOGIT_SPREAD)
        log_scale = torch.cat([log_scale[kinds.normal], away])
    prior = (log_relevance.double().square().sum() + log_scale.square().sum()) / (2 * spread**2)
    return torch.stack([evidence, prior - model.likelihood.log_prior(raw).double().sum()])
