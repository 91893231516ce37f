"""KL between the distribution of masked weights and the prior (Gal 2016, appendix A; Gal, Hron & Kendall 2017).

A weight under a mask is w / (1 - p) with probability 1 - p, else 0. So, with H the entropy of a Bernoulli variable,

    KL = -E_z[log prior(theta)] - sum_units H(p) + const,
    E_z[log prior(theta)] = sum_i (1 - p_i) log prior(w_i / (1 - p_i)) + p_i log prior(0),

which for a Gaussian prior N(0, s^2) is -sum_i w_i^2 / (2 s_i^2 (1 - p_i)) + const: the penalty of a weight is divided
by 1 - p. In nats over all N rows: nothing is divided by N here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.inference.dropout.sites import DropoutSites
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors import Prior


def cross_entropy(prior: Prior, layout: ParameterLayout, sites: DropoutSites, params: Tensor, rates: Tensor) -> Tensor:
    """-E_z[log prior(theta)], exactly, for a prior that is independent from weight to weight.

    Parameters
    ----------
    prior : Prior
        With a finite density at 0.
    layout : ParameterLayout
    sites : DropoutSites
    params : Tensor
        (S, n).
    rates : Tensor
        p of each member and site, (S, sites).

    Returns
    -------
    Tensor
        (S,), nats.
    """
    keep = sites.spread(1 - rates, 1.0)
    if prior.gaussian:
        return -prior.log_prob(params * keep.rsqrt(), layout)
    # log_prob only gives sums over all weights, so each site's share is taken with the others at 0
    count = len(sites.sites)
    parts = torch.arange(count + 1, device=params.device).unsqueeze(-1) == sites.site
    alone = (params / keep).unsqueeze(1) * parts
    at_zero = prior.log_prob(torch.zeros_like(params[:1]), layout)
    shares = prior.log_prob(alone.flatten(0, 1), layout).view(-1, count + 1) - at_zero
    weights = torch.cat([1 - rates, rates.new_ones(rates.shape[0], 1)], dim=-1)
    return -(at_zero + (weights * shares).sum(-1))


def entropy(sites: DropoutSites, logits: Tensor) -> Tensor:
    """Entropy of all masks, (S,), nats: H(p) for every unit. ``logits`` (S, sites) are log p - log(1 - p)."""
    rate = torch.sigmoid(logits)
    own = -rate * torch.nn.functional.logsigmoid(logits) - (1 - rate) * torch.nn.functional.logsigmoid(-logits)
    return (own * own.new_tensor(sites.widths)).sum(-1)
