"""Local reparameterisation and flipout of a mean-field normal posterior: every row has weights of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.inference.estimators.base import repeat
from dynapilco.inference.estimators.dense import flipout_dense, local_dense
from dynapilco.inference.estimators.modules import row_noise_outputs
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.posteriors import Posterior, Variational
from dynapilco.inference.target import Batch


def local(
    q: Posterior, variational: Variational, batch: Batch, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Noise on the pre-activations of each row (Kingma, Salimans & Welling 2015); q is a mean-field normal."""
    network = batch.model.network
    if network.dense_plan is None:
        return _intercepted(q, variational, batch, samples, generator, local=True), None
    mean, std = _moments(q, variational, batch)
    x = _inputs(batch, mean.shape[0])
    f = local_dense(network.dense(mean), network.dense(std.square()), x, samples, generator)
    return f.flatten(0, 1), None


def flipout(
    q: Posterior, variational: Variational, batch: Batch, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Weight deviations under random signs of each row (Wen et al. 2018); q is a mean-field normal."""
    network = batch.model.network
    if network.dense_plan is None:
        return _intercepted(q, variational, batch, samples, generator, local=False), None
    loc = q.mean(variational)
    change = (q.sample(variational, samples, generator, antithetic=True) - loc.unsqueeze(1)).flatten(0, 1)
    mean = network.dense(batch.model.full(loc, variational["points"]))
    f = flipout_dense(mean, network.dense(_alone(network, change)), _inputs(batch, loc.shape[0]), samples, generator)
    return f.flatten(0, 1), None


def _intercepted(
    q: Posterior, variational: Variational, batch: Batch, samples: int, generator: torch.Generator, *, local: bool
) -> Tensor:
    mean, std = _moments(q, variational, batch)
    theta = q.sample(variational, samples, generator, antithetic=True)
    full = batch.model.full(theta.flatten(0, 1), repeat(variational["points"], samples))
    x = _inputs(batch, mean.shape[0])
    network = batch.model.network
    return row_noise_outputs(network, full.unflatten(0, theta.shape[:2]), mean, std, x, generator, local=local)


def _moments(q: Posterior, variational: Variational, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the network's full vector, (S, n_full): excluded weights have no spread."""
    mean = batch.model.full(q.mean(variational), variational["points"])
    return mean, _alone(batch.model.network, q.std(variational))


def _alone(network: StackedNetwork, params: Tensor) -> Tensor:
    """The full vector (S, n_full) of params (S, n) with 0 for excluded weights."""
    return network.assemble(params, params.new_zeros(params.shape[0], network.excluded.total))


def _inputs(batch: Batch, members: int) -> Tensor:
    """Inputs of every member, (S, B, *in)."""
    x = batch.inputs_of(members)
    return x if batch.row_axis == 1 else x.expand(members, *x.shape)
