"""The potential and its gradient at the positions of S chains: the one place where chains meet the data.

A position is a row of n Bayesian weights followed by k raw noise parameters. The samplers know only functions of the
type ``PotentialFunction``, so that they run on any density.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dynapilco.inference import fused
from dynapilco.inference.likelihoods import Gaussian
from dynapilco.inference.likelihoods.gaussian import PRIOR_SPREAD
from dynapilco.inference.target import Batch

PotentialFunction = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions (S, d) to U (S,) and its gradient (S, d), which may be a buffer that the next call overwrites."""


def make_potential(
    batch: Batch, excluded: Tensor, shift: Tensor | None = None, errors: Tensor | None = None
) -> PotentialFunction:
    """U of ``batch`` as a function of positions (S, n + k), by the fastest way that the model allows.

    Parameters
    ----------
    batch : Batch
    excluded : Tensor
        Excluded weights (S, m), which stay as they are.
    shift : Tensor, optional
        Anchors (S, n): the prior is centred there.
    errors : Tensor, optional
        Numbers e (S, B, out), Gaussian likelihoods only: weights (not noise parameters) see the targets y + sigma e.
    """
    if dense_reason(batch, excluded) is None:
        return DensePotential(batch, excluded.shape[0], shift, errors)
    return AutogradPotential(batch, excluded, shift, errors)


def dense_reason(batch: Batch, excluded: Tensor) -> str | None:
    """Why the compiled kernel cannot serve this batch, or None when it can."""
    network, likelihood = batch.model.network, batch.model.likelihood
    if network.dense_plan is None or excluded.shape[-1]:
        return "not a plain stack of Linear layers without excluded weights"
    if type(likelihood) is not Gaussian or not batch.model.prior.gaussian:
        return "the gradient is written out for Gaussian likelihoods and priors only"
    data = (batch.x, batch.y, excluded)
    if not fused.supports(*data, activation=network.dense_plan[1]) or batch.x.dim() not in (2, 3):
        return "the kernel takes float32 on the CPU and rows of numbers"
    return fused.unavailable_reason()


class AutogradPotential:
    """Any model: the batch's own potential under autograd."""

    def __init__(
        self, batch: Batch, excluded: Tensor, shift: Tensor | None = None, errors: Tensor | None = None
    ) -> None:
        self.batch, self.excluded, self.shift, self.errors = batch, excluded, shift, errors
        self.weights = batch.model.network.layout.total

    def __call__(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """U (S,) in float64 and a fresh gradient (S, n + k)."""
        leaf = position.detach().requires_grad_(True)
        with torch.enable_grad():
            points = torch.cat([leaf[:, self.weights :], self.excluded], dim=-1)
            values = perturbed_potential(self.batch, leaf[:, : self.weights], points, self.shift, self.errors)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach().double(), gradient


def perturbed_potential(
    batch: Batch, params: Tensor, points: Tensor, shift: Tensor | None, errors: Tensor | None
) -> Tensor:
    """U (S,), whose gradient in the weights is that for targets y + sigma e where ``errors`` e are given."""
    values = batch.potential(params, points, shift)
    if errors is None:
        return values
    raw, y = batch.model.split_points(points)[0].detach(), batch.targets_of(params.shape[0])
    f = batch.outputs(params, points)
    moved = y + batch.model.likelihood.constrain(raw).unsqueeze(-2) * errors
    change = batch.log_likelihood(f, points.detach(), y=moved) - batch.log_likelihood(f, points.detach())
    return values - (change - change.detach()) / batch.temperature


class DensePotential:
    """Multilayer perceptrons, Gaussian noise and prior, float32 on the CPU: compiled, without an autograd graph.

    With residuals r = f - y, row weights w and c = N/B,

        U T = c sum_o [ sum_b w_b r_bo^2 / (2 sigma_o^2) + W log sigma_o ] + |theta - a|^2 / (2 s^2) + ...

    where W is the sum of the row weights. Sums over rows are taken in float64: HMC accepts by differences of U that
    are a millionth of U.
    """

    def __init__(self, batch: Batch, members: int, shift: Tensor | None = None, errors: Tensor | None = None) -> None:
        model, x = batch.model, batch.inputs_of(members)
        assert model.network.dense_plan is not None and isinstance(model.likelihood, Gaussian)
        self.likelihood, self.activation = model.likelihood, model.network.dense_plan[1]
        self.x, self.y, self.shift = x.contiguous(), batch.targets_of(members), shift
        self.errors = errors
        self.row_weights = _row_weights(batch, members)
        self.raw_initial = model.likelihood.init(1, model.outputs).to(x)
        self.scale, self.temperature = batch.factor, batch.temperature
        shapes = [shape for shape in model.network.layout.shapes if len(shape) == 2]
        self.widths = (shapes[0][1], *(shape[0] for shape in shapes))
        std = model.prior.std(model.network.layout).to(x)
        self.precision, self.weights = std.square().reciprocal(), std.shape[0]
        self.constant = float(std.double().log().sum()) + 0.5 * self.weights * math.log(2 * math.pi)
        self.residual = torch.empty(members, x.shape[-2], model.outputs)
        self.weighted = self.residual if self.row_weights is None else torch.empty_like(self.residual)
        self.squares = torch.empty_like(self.residual)
        self.rows = self._row_total(members, x)
        self.saved: fused.Saved | None = None
        self.gradient: Tensor | None = None

    def _row_total(self, members: int, x: Tensor) -> Tensor:
        """W of each member, (S, 1), float64."""
        if self.row_weights is None:
            return torch.full((members, 1), float(x.shape[-2]), dtype=torch.float64)
        return self.row_weights.sum(-1, dtype=torch.float64).expand(members).unsqueeze(-1)

    @torch.no_grad()
    def __call__(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """U (S,) in float64 and the gradient (S, n + k), a buffer."""
        params, raw = position[:, : self.weights], position[:, self.weights :]
        f, self.saved = fused.forward(params, self.x, self.widths, self.activation, saved=self.saved)
        residual = torch.sub(f, self.y, out=self.residual)
        weighted = self.weighted
        if self.row_weights is not None:
            torch.mul(residual, self.row_weights.unsqueeze(-1), out=weighted)
        squares = torch.mul(residual, weighted, out=self.squares).sum(1, dtype=torch.float64)
        sigma = self.likelihood.constrain(raw)
        values = self._likelihood_value(squares, sigma.double())
        gradient = self._gradient_like(position)
        self._perturb(sigma)
        weighted.mul_((self.scale / self.temperature / sigma.square()).unsqueeze(1))
        from_rows = fused.backward(self.saved, weighted)
        centred = params if self.shift is None else params - self.shift
        torch.addcmul(from_rows, centred, self.precision, value=1 / self.temperature, out=gradient[:, : self.weights])
        values += 0.5 * (centred.square() * self.precision).sum(-1, dtype=torch.float64) + self.constant
        if raw.shape[-1]:
            values += self._noise(raw, sigma, squares, gradient)
        return values / self.temperature, gradient

    def _perturb(self, sigma: Tensor) -> None:
        if self.errors is None:
            return
        self.residual.addcmul_(sigma.unsqueeze(1), self.errors, value=-1.0)
        if self.row_weights is not None:
            torch.mul(self.residual, self.row_weights.unsqueeze(-1), out=self.weighted)

    def _likelihood_value(self, squares: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.expand(-1, squares.shape[-1])
        per_output = 0.5 * squares / sigma.square() + self.rows * (sigma.log() + 0.5 * math.log(2 * math.pi))
        return self.scale * per_output.sum(-1)

    def _noise(self, raw: Tensor, sigma: Tensor, squares: Tensor, gradient: Tensor) -> Tensor:
        """Write dU / draw into ``gradient``; return -log prior of raw, (S,)."""
        centred = (raw - self.raw_initial) / PRIOR_SPREAD
        wide = sigma.double()
        slope = self.scale * (self.rows - squares / wide.square()) / wide
        total = slope * torch.sigmoid(raw) + centred / PRIOR_SPREAD
        gradient[:, self.weights :] = total / self.temperature
        return 0.5 * centred.square().sum(-1, dtype=torch.float64)

    def _gradient_like(self, position: Tensor) -> Tensor:
        if self.gradient is None:
            self.gradient = torch.empty_like(position)
        return self.gradient


def _row_weights(batch: Batch, members: int) -> Tensor | None:
    """Row weights as ``members`` members see them, (B,) or (S, B)."""
    weights = batch.weights
    if weights is None or weights.dim() == 1:
        return weights
    return weights.repeat_interleave(members // weights.shape[0], 0)
