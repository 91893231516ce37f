"""The covariance of a very wide dense network under its prior: a Gaussian process in closed form.

With weights w ~ N(0, s_w^2), biases b ~ N(0, s_b^2) and H units feeding a layer, the covariance of a layer's inputs is

    q_1(x, x') = s_w^2 x^T x' + s_b^2,        q_{l+1}(x, x') = s_w^2 H E[act(u) act(u')] + s_b^2,  (u, u') ~ N(0, q_l)

and the last one is that of the outputs (Neal 1996; deep: Lee et al. 2018, "Deep neural networks as Gaussian
processes"). E is known for the error function (Williams 1998, "Computation with infinite neural networks"), which
stands in for tanh by tanh(u) ~ erf(sqrt(pi) u / 2), and for relu (Cho & Saul 2009, "Kernel methods for deep learning").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.priors import Prior

MARGIN = 1e-9
"""Correlations are kept this far from 1, where the derivative of their angle is infinite."""


def erf_moment(q: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """E[erf(c u) erf(c u')], c = sqrt(pi) / 2, of covariances q and variances left, right that broadcast with q."""
    c2 = math.pi / 2
    scale = ((1 + c2 * left) * (1 + c2 * right)).sqrt()
    return 2 / math.pi * (c2 * q / scale).clamp(-1 + MARGIN, 1 - MARGIN).asin()


def relu_moment(q: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """E[relu(u) relu(u')]; shapes as in :func:`erf_moment`."""
    scale = (left * right).clamp_min(1e-300).sqrt()
    angle = (q / scale).clamp(-1 + MARGIN, 1 - MARGIN).acos()
    return scale / (2 * math.pi) * (angle.sin() + (math.pi - angle) * angle.cos())


def identity_moment(q: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """E[u u'] = q."""
    return q


MOMENTS = {"tanh": erf_moment, "relu": relu_moment, "identity": identity_moment}


@dataclass(frozen=True)
class WideKernel:
    """Covariance of one output of a dense network in the limit of wide layers, its last bias left out.

    Attributes
    ----------
    activation : str
        A key of ``MOMENTS``.
    weights : tuple of float
        Prior variance of each layer's weights, times the width that feeds it (for the first layer: as it is).
    biases : tuple of float
        Prior variance of each layer's biases; that of the last one is not part of the kernel.
    """

    activation: str
    weights: tuple[float, ...]
    biases: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Covariances (..., N, N) between the rows x (..., N, D)."""
        moment = MOMENTS[self.activation]
        q, left = x @ x.transpose(-1, -2), x.square().sum(-1, keepdim=True)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            q, left = weight * q + bias, weight * left + bias
            q, left = moment(q, left, left.transpose(-1, -2)), moment(left, left, left)
        return self.weights[-1] * q


def output_shares(std: Tensor) -> Tensor:
    """Prior standard deviations of the last weights (O, H), output by output, as shares of the largest, (O, 1)."""
    return std[:, :1] / std[:, :1].max()


def wide_kernel(network: StackedNetwork, prior: Prior) -> WideKernel | None:
    """The kernel of a dense network under a normal prior with one scale for each weight matrix and bias; else None.

    The last weights may have a scale for each output; the kernel is that of the widest one (``output_shares``).
    """
    if network.dense_plan is None or network.excluded.names or not prior.gaussian:
        return None
    layers, activation = network.dense_plan
    if activation not in MOMENTS:
        return None
    std = network.layout.split(prior.std(network.layout).double())
    parts = {name: s for name, s in std.items() if name != f"{layers[-1]}.bias"}
    parts |= {f"{layers[-1]}.weight": std[f"{layers[-1]}.weight"] / output_shares(std[f"{layers[-1]}.weight"])}
    if any(float(s.max() - s.min()) > 1e-6 * float(s.max()) for s in parts.values()):
        return None
    widths = [1, *(std[f"{layer}.weight"].shape[1] for layer in layers[1:])]
    weights = [float(std[f"{layer}.weight"].max()) ** 2 * w for layer, w in zip(layers, widths, strict=True)]
    return WideKernel(activation, tuple(weights), tuple(float(std[f"{layer}.bias"].max()) ** 2 for layer in layers))
