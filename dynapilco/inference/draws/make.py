"""Choosing the cheapest engine for a draw."""

from __future__ import annotations

from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.draws.base import Draw
from dynapilco.inference.draws.dense import DenseDraw
from dynapilco.inference.draws.wrapped import ModuleDraw
from dynapilco.inference.likelihoods import Likelihood
from dynapilco.inference.network import StackedNetwork


def make_draw(
    network: StackedNetwork,
    params: Tensor,
    noise: Tensor,
    likelihood: Likelihood,
    masks: tuple[Tensor | None, ...] | None = None,
) -> Draw:
    """Build the cheapest draw for S functions.

    Parameters
    ----------
    network : StackedNetwork
    params : Tensor
        (S, n_full); with masks (1, n_full).
    noise : Tensor
        Constrained noise parameters, (S, k).
    likelihood : Likelihood
    masks : tuple of (Tensor or None), optional
        One per hidden layer, (S, width).
    """
    params, noise = params.detach(), noise.detach()
    if network.dense_plan is not None:
        return DenseDraw(noise.shape[0], noise, likelihood, network.dense(params, masks))
    if masks is not None:
        raise UserError("masks need a plain stack of Linear layers")
    return ModuleDraw(noise.shape[0], noise, likelihood, network=network, params=params)
