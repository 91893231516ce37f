"""What the last layer of each member sees, and the posterior of its weights given that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.draws.trunk import last_layer, last_layer_refusal, trunk_features, trunk_of
from dynapilco.inference.evidence import cholesky
from dynapilco.inference.evidence.kinds import Kinds
from dynapilco.inference.likelihoods import Joint, Likelihood
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.stack import ACTIVATIONS
from dynapilco.inference.target import BayesianModel

CHUNK = 512
"""Rows whose features are held at once."""


@dataclass(frozen=True)
class LastLayer:
    """The last ``nn.Linear`` of a model's network, as a linear model on the features before it.

    Attributes
    ----------
    model : BayesianModel
    name : str
    """

    model: BayesianModel
    name: str

    @classmethod
    def of(cls, model: BayesianModel) -> LastLayer:
        """That of ``model``, which must have one (``last_layer_refusal``)."""
        name = last_layer(model.network.module)
        assert name is not None
        return cls(model, name)

    @property
    def has_bias(self) -> bool:
        """Whether the bias is Bayesian."""
        return self._full_name("bias") in self.model.network.layout.names

    def prior_std(self) -> Tensor:
        """Prior standard deviations of the weights (and bias), (O, H [+ 1])."""
        return self.weights(self.model.prior.std(self.model.network.layout).unsqueeze(0))[0].double()

    def bias_variance(self, columns: list[int] | None = None) -> float:
        """Prior variance of the bias of some outputs (of all), 0 where it is not Bayesian."""
        if not self.has_bias:
            return 0.0
        std = self.prior_std()[:, -1]
        return float((std if columns is None else std[columns]).square().mean())

    def weights(self, params: Tensor) -> Tensor:
        """Weight and (where it is Bayesian) bias out of params (S, n), (S, O, H [+ 1])."""
        named = self.model.network.layout.split(params)
        weight = named[self._full_name("weight")]
        if not self.has_bias:
            return weight
        return torch.cat([weight, named[self._full_name("bias")].unsqueeze(-1)], -1)

    def put(self, params: Tensor, weights: Tensor) -> None:
        """Write what :meth:`weights` reads into params (S, n), in place."""
        places = self.model.network.layout.slices()
        bias = int(self.has_bias)
        width = weights.shape[-1] - bias
        params[:, places[self._full_name("weight")]] = weights[..., :width].flatten(1)
        if bias:
            params[:, places[self._full_name("bias")]] = weights[..., width]

    def offset(self, full: Tensor) -> Tensor:
        """The bias where it is there but not Bayesian, (S, O) or zeros (S, 1): full parameters (S, n_full)."""
        if self.has_bias or self.model.network.module.get_submodule(self.name).bias is None:
            return full.new_zeros(full.shape[0], 1)
        named = self.model.network.full.split(full)
        fixed = self.model.network.module.get_submodule(self.name).bias
        assert isinstance(fixed, Tensor)
        return named.get(self._full_name("bias"), fixed.detach())

    def chunks(self, full: Tensor, x: Tensor) -> Iterator[tuple[Tensor, slice]]:
        """Features (S, B, H [+ 1]), float64, of rows x (N, *in) at full parameters (S, n_full), some rows at a time."""
        for first in range(0, x.shape[0], CHUNK):
            rows = slice(first, min(first + CHUNK, x.shape[0]))
            features = features_of(self.model.network, self.name, full, x[rows]).double()
            if features.dim() != 3:
                shape = tuple(features.shape[2:])
                raise UserError(f"the last layer {self.name!r} sees {shape} numbers for a row: expected a vector")
            if self.has_bias:
                features = torch.cat([features, features.new_ones(*features.shape[:-1], 1)], -1)
            yield features, rows

    def _full_name(self, kind: str) -> str:
        return f"{self.name}.{kind}".lstrip(".")


def refusal(model: BayesianModel) -> str | None:
    """Why the posterior of the last layer, given the others, is not normal or cannot be told apart; None if it is."""
    if Kinds.of(model.likelihood, model.outputs) is None:
        return f"needs Gaussian or Bernoulli likelihoods, got {_named(model.likelihood)}"
    if not model.prior.gaussian:
        return f"needs a normal prior, got {type(model.prior).__name__}"
    reason = last_layer_refusal(model.network)
    if reason is None and f"{last_layer(model.network.module)}.weight".lstrip(".") not in model.network.layout.names:
        return "the weights of the last layer are excluded"
    return reason


def _named(likelihood: Likelihood) -> str:
    """Its class, and those of its blocks."""
    name = type(likelihood).__name__
    return f"{name} of {', '.join(b.name for b in likelihood.parts)}" if isinstance(likelihood, Joint) else name


@torch.no_grad()
def features_of(network: StackedNetwork, layer: str, full: Tensor, x: Tensor) -> Tensor:
    """What ``layer`` sees in each member: full parameters (S, n_full), rows x (B, *in) -> (S, B, *inner, H)."""
    if network.dense_plan is None or x.dim() != 2:
        trunk = trunk_of(network.module, layer)
        return torch.stack([trunk_features(network, layer, trunk, row.unsqueeze(0), x) for row in full])
    stack = network.dense(full)
    z = x.expand(full.shape[0], *x.shape)
    for weight, bias in zip(stack.weights[:-1], stack.biases[:-1], strict=True):
        z = ACTIVATIONS[stack.activation](torch.baddbmm(bias.unsqueeze(1), z, weight))
    return z


def solve(gram: Tensor, moment: Tensor, std: Tensor, noise: Tensor, anchors: Tensor) -> Tensor:
    """Minimise |y - Phi v|^2_W / sigma^2 + |(v - v0) / std|^2 over v for each member and output.

    Parameters
    ----------
    gram : Tensor
        Phi^T W Phi, (S, H, H).
    moment : Tensor
        Phi^T W y, (S, H, O).
    std : Tensor
        Prior standard deviations, (O, H).
    noise : Tensor
        sigma, (O,).
    anchors : Tensor
        v0, (S, O, H).

    Returns
    -------
    Tensor
        (S, O, H).
    """
    solved = []
    for o in range(std.shape[0]):
        own, variance = std[o], noise[o].square()
        system = gram * torch.outer(own, own)
        system.diagonal(dim1=-2, dim2=-1).add_(variance)
        right = moment[..., o] * own + variance * anchors[:, o] / own
        u = torch.cholesky_solve(right.unsqueeze(-1), cholesky.factor(system)).squeeze(-1)
        solved.append(u * own)
    return torch.stack(solved, 1)
