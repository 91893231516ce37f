"""What the hyper-parameters of a data set descend: the negative log evidence of the wide network, and their prior.

The covariance of output o is sum_g s_og^2 K_{r_g} + b^2 + sigma_o^2 I: G groups of hidden units with relevances r_g of
their own, which multiply the inputs, and the variance b^2 of the last bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.inference.evidence.kernel import wide_kernel
from dynapilco.inference.evidence.last_layer import LastLayer
from dynapilco.inference.evidence.marginal import negative_log_evidence
from dynapilco.inference.evidence.rows import Rows
from dynapilco.inference.target import Batch, BayesianModel, Target

Hyper = tuple[Tensor, Tensor, Tensor]
"""Log relevances (G, D), log scales (O, G), and raw noise parameters (1, k) of the likelihood, of one data set."""

KERNEL_MEMBERS = 8
"""Members whose features stand for a wide network, where there is no closed form."""


def structure(model: BayesianModel, groups: int) -> tuple[int, int]:
    """Inputs that have a relevance (0 where the wide network has no closed form), and groups of hidden units."""
    widths = model.network.widths
    if len(widths) < 3 or wide_kernel(model.network, model.prior) is None:
        return 0, 1
    return widths[0], min(groups, model.outputs, widths[1]) if len(widths) == 3 else 1


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
        features = features * layer.prior_std().to(full.device).square().mean(0).sqrt()
        features = features[..., : features.shape[-1] - layer.has_bias]
        kernels.append((features @ features.transpose(1, 2)).mean(0, keepdim=True))
    return torch.stack(kernels)


def potential(batch: Batch, r: int, kernels: Tensor | None, hyper: Hyper, most: int, spread: float) -> Tensor:
    """What the hyper-parameters of data set r descend, scaled up to all rows where more than ``most`` are there; ()."""
    rows = Rows.of(batch, r, most)
    kernels = kernels_of(batch.model, rows, hyper[0].double()) if kernels is None else kernels
    evidence, prior = objective(batch.model, rows, kernels, hyper, spread)
    return evidence * (batch.rows / len(rows.y)) + prior


def objective(model: BayesianModel, rows: Rows, kernels: Tensor, hyper: Hyper, spread: float) -> Tensor:
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
    """
    log_relevance, log_scale, raw = hyper
    kernel = torch.einsum("og,gmn->omn", (2 * log_scale.double()).exp(), kernels) + LastLayer.of(model).bias_variance()
    noise = model.likelihood.constrain(raw)[0].double().expand(rows.y.shape[-1])
    weights = None if rows.weights is None else rows.weights.double()
    evidence = negative_log_evidence(kernel, rows.y.double(), noise, weights).sum()
    prior = (log_relevance.double().square().sum() + log_scale.double().square().sum()) / (2 * spread**2)
    return torch.stack([evidence, prior - model.likelihood.log_prior(raw).double().sum()])
