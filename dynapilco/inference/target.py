"""The potential energy that all methods descend or sample: owned here, so that nobody else scales by N."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods import Gaussian
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.priors import FanInNormal


@dataclass(frozen=True)
class BayesianModel:
    """A network, a likelihood and a prior: everything but data.

    Attributes
    ----------
    network : StackedNetwork
    likelihood : Gaussian
    prior : FanInNormal
    outputs : int
        Number of target columns.
    """

    network: StackedNetwork
    likelihood: Gaussian
    prior: FanInNormal
    outputs: int


class Target:
    """U(theta) = -(N/B) sum_batch log p(y|x, theta) / T - log p(theta) / T for S parameter vectors at once.

    Parameters
    ----------
    model : BayesianModel
    x, y : Tensor
        Data (N, *in) and (N, out), shared by all members, or (S, N, *in) and (S, N, out), one set each.
    weights : Tensor, optional
        Row weights (N,) or (S, N); rows of weight 0 do not count towards N.
    temperature : float
        T above 0; 1 is the Bayes posterior.

    Raises
    ------
    UserError
        For empty, mismatched or non-finite data, or a temperature that is not above 0.
    """

    def __init__(
        self,
        model: BayesianModel,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        _check_data(x, y, model.outputs, weights, temperature)
        self.model, self.x, self.y, self.weights, self.temperature = model, x, y, weights, temperature
        self.prior_std = model.prior.std(model.network.layout).to(x.device, x.dtype)
        self.row_axis = y.dim() - 2

    @property
    def rows(self) -> int:
        """Number of rows held."""
        return self.y.shape[self.row_axis]

    @property
    def size(self) -> Tensor:
        """N as each member counts it, shape () or (S,)."""
        if self.weights is None:
            return torch.tensor(float(self.rows), device=self.y.device)
        return self.weights.sum(-1)

    def outputs(self, params: Tensor, x: Tensor) -> Tensor:
        """Network outputs (S, B, out) of params (S, n) on shared or own inputs."""
        network = self.model.network
        return network.shared(params, x) if self.row_axis == 0 else network.each(params, x)

    def log_likelihood(self, f: Tensor, noise: Tensor, batch: Tensor | None = None) -> Tensor:
        """Sum of log-likelihoods rescaled to all N rows, (S,), for outputs f (S, B, out) on rows ``batch``."""
        y = self.y if batch is None else self.y.index_select(self.row_axis, batch)
        rows = self.model.likelihood.log_prob(noise, f, y)
        if self.weights is None:
            return rows.sum(-1) * (self.rows / rows.shape[-1])
        weights = self.weights if batch is None else self.weights.index_select(-1, batch)
        return (rows * weights).sum(-1) * (self.rows / rows.shape[-1])

    def negative_log_prior(self, params: Tensor, loc: Tensor | float = 0.0) -> Tensor:
        """-log p(theta) up to a constant, (S,), for a prior centred on ``loc`` (0, or each member's anchor)."""
        return 0.5 * ((params - loc) / self.prior_std).square().sum(-1)

    def potential(
        self, params: Tensor, noise: Tensor, batch: Tensor | None = None, loc: Tensor | float = 0.0
    ) -> Tensor:
        """U, shape (S,), of params (S, n) and noise parameters (S, out) on all rows or on the rows ``batch``."""
        x = self.x if batch is None else self.x.index_select(self.row_axis, batch)
        fit = self.log_likelihood(self.outputs(params, x), noise, batch)
        return (self.negative_log_prior(params, loc) - fit) / self.temperature


def _check_data(x: Tensor, y: Tensor, outputs: int, weights: Tensor | None, temperature: float) -> None:
    axis = y.dim() - 2
    if axis not in (0, 1) or x.shape[: axis + 1] != y.shape[: axis + 1]:
        raise UserError(f"x {tuple(x.shape)} and y {tuple(y.shape)}: expected (N, *) or (S, N, *) with equal rows")
    if y.shape[axis] == 0:
        raise UserError("the data set is empty: expected at least one row")
    if y.shape[-1] != outputs:
        raise UserError(f"y has {y.shape[-1]} columns, the model has {outputs} outputs")
    for name, tensor in (("x", x), ("y", y)):
        if not torch.isfinite(tensor).all():
            raise UserError(f"{name} holds NaN or infinite values in {int((~torch.isfinite(tensor)).sum())} places")
    if weights is not None and weights.shape[-1] != y.shape[axis]:
        raise UserError(f"weights {tuple(weights.shape)}: expected one for each of {y.shape[axis]} rows")
    if weights is not None and not (torch.isfinite(weights).all() and weights.min() >= 0 and weights.sum(-1).min() > 0):
        raise UserError("weights: expected finite numbers of at least 0, not all of them 0")
    if not temperature > 0:
        raise UserError(f"temperature={temperature!r}: expected a number above 0")
