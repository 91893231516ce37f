"""Jacobians of a network, curvature of a likelihood, and both together: the generalised Gauss-Newton matrix.

    H = sum_i J_i^T Lambda_i J_i + P,    Lambda_i = -d^2 log p(y_i | f_i) / df_i^2,    P = -d^2 log p(theta) / dtheta^2

(Schraudolph 2002; Martens 2020, "New insights and perspectives on the natural gradient method", section 8). Sums run in
float64: near-deterministic data give eigenvalues over ten powers of ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import jacrev

from dynapilco.inference.draws import columns
from dynapilco.inference.draws.plain import plain_kernels
from dynapilco.inference.likelihoods import Gaussian, Likelihood
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.target import BayesianModel, Target

CHUNK = 4_000_000
"""Numbers of a Jacobian held at once."""

PRIOR_FLOOR = 1e-2
"""Least curvature of a prior, in units of 1 / std^2: a weight without data spreads over at most ten prior spreads."""


@dataclass(frozen=True)
class LocalModel:
    """One member's network at its weights, and the rows that it is fitted to.

    Attributes
    ----------
    model : BayesianModel
    full : Tensor
        The network's parameters, (n_full,).
    raw : Tensor
        Raw noise parameters, (1, k).
    x, y : Tensor
        (N, *in) and (N, out).
    weights : Tensor
        What each row counts, (N,): row weights over the temperature.
    """

    model: BayesianModel
    full: Tensor
    raw: Tensor
    x: Tensor
    y: Tensor
    weights: Tensor

    def chunks(self, rows: int) -> Iterator[LocalModel]:
        """The same with ``rows`` rows at a time."""
        for i in range(0, self.y.shape[0], rows):
            part = slice(i, i + rows)
            yield replace(self, x=self.x[part], y=self.y[part], weights=self.weights[part])

    def roots(self, f: Tensor) -> Tensor:
        """V (B, w, w), float64, with V V^T = weight * Lambda for outputs f (B, *out)."""
        roots = likelihood_roots(self.model.likelihood, self.raw, columns(f.detach().unsqueeze(0)), self.y)
        return roots * self.weights.double().sqrt().reshape(-1, 1, 1)

    def scaled_jacobians(self, names: Sequence[str]) -> Iterator[Tensor]:
        """Parts of V^T J, (B * w, m), float64: their sum of squares is the generalised Gauss-Newton matrix."""
        if not names:
            return
        network = self.model.network
        size = sum(s for name, s in zip(network.full.names, network.full.sizes, strict=True) if name in names)
        width = self.outputs(self.x[:1]).numel()
        for part in self.chunks(max(1, CHUNK // (size * width))):
            roots = part.roots(part.outputs(part.x))
            jac = jacobian(network, self.full, names, part.x).double()
            yield (roots.transpose(-1, -2) @ jac).flatten(0, 1)

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """Network outputs (B, *out)."""
        return self.model.network.shared(self.full.unsqueeze(0), x)[0]


def local_models(target: Target, params: Tensor, points: Tensor) -> Iterator[LocalModel]:
    """Each member's own model and data: params (S, n), points (S, k + m)."""
    model, whole, members = target.model, target.all, params.shape[0]
    full, raw = model.full(params, points).detach(), model.split_points(points)[0].detach()
    ones = torch.ones(whole.rows, dtype=torch.float64, device=whole.y.device) * whole.factor / target.temperature
    for s in range(members):
        r = s * target.sets // members
        x, y = (t if whole.row_axis == 0 else t[r] for t in (whole.x, whole.y))
        weights = whole.weights if whole.weights is None or whole.weights.dim() == 1 else whole.weights[r]
        yield LocalModel(model, full[s], raw[s : s + 1], x, y, ones if weights is None else ones * weights)


def jacobian(network: StackedNetwork, full: Tensor, names: Sequence[str], x: Tensor) -> Tensor:
    """Derivatives of all outputs in the named parameters at full (n_full,): x (B, *in) -> (B, w, m)."""
    named = {name: p.detach() for name, p in network.full.split(full).items()}
    part = {name: named.pop(name) for name in network.full.names if name in names}
    if network.engine == "loop":
        return torch.stack([_row_jacobian(network, named, part, row.unsqueeze(0)) for row in x])

    def outputs(part: dict[str, Tensor], row: Tensor) -> Tensor:
        return network.call({**named, **part}, row.unsqueeze(0)).flatten()

    with plain_kernels(network.module):  # kernels that vmap can batch
        jac = torch.vmap(jacrev(outputs), in_dims=(None, 0))(part, x)
    return torch.cat([jac[name].flatten(2) for name in part], dim=-1)


def _row_jacobian(network: StackedNetwork, fixed: dict[str, Tensor], part: dict[str, Tensor], row: Tensor) -> Tensor:
    with torch.enable_grad():
        leaves = {name: p.clone().requires_grad_(True) for name, p in part.items()}
        outputs = network.call({**fixed, **leaves}, row).flatten()
        rows = []
        for value in outputs:
            grads = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows)


def likelihood_roots(likelihood: Likelihood, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
    """V with V V^T = Lambda, the negative Hessian of the log-likelihood in the outputs, (B, w, w), float64.

    Closed form for the Gaussian, autograd for others. Where Lambda is not positive semi-definite (Student-t far from
    its mode, learned variances), its negative eigenvalues count as 0.

    Parameters
    ----------
    raw : Tensor
        Raw noise parameters (1, k).
    f : Tensor
        Outputs (1, B, w).
    y : Tensor
        (B, out).
    """
    raw, f = raw.detach().double(), f.detach().double()
    if type(likelihood) is Gaussian:
        return torch.diag_embed(likelihood.constrain(raw).reciprocal().expand(f.shape[1:]))
    values, vectors = torch.linalg.eigh(-_hessian(likelihood, raw, f, y.double() if y.is_floating_point() else y))
    return vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2)


def _hessian(likelihood: Likelihood, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = f.requires_grad_(True)
        (first,) = torch.autograd.grad(likelihood.log_prob(raw, leaf, y).sum(), leaf, create_graph=True)
        rows = []
        for j in range(f.shape[-1]):  # rows of data do not mix
            value = first[..., j].sum()
            (row,) = torch.autograd.grad(value, leaf, retain_graph=True, materialize_grads=True)
            rows.append(row[0])
    hessian = torch.stack(rows, dim=-2).detach()
    return 0.5 * (hessian + hessian.transpose(-1, -2))


def prior_precision(model: BayesianModel, params: Tensor) -> tuple[Tensor, Tensor]:
    """Curvature of the prior at params (S, n), kept above ``PRIOR_FLOOR``; and the share of weights that needed it.

    Priors with heavy tails or kinks have no or negative curvature in places, where the normal approximation would have
    no finite width.

    Returns
    -------
    tuple of Tensor
        (S, n) in float64, and (S,).
    """
    layout = model.network.layout
    found = model.prior.curvature(params.detach(), layout).double()
    floor = PRIOR_FLOOR * model.prior.std(layout).to(found).square().reciprocal().expand_as(found)
    low = ~(found >= floor)
    return torch.where(low, floor, found), low.to(params.dtype).mean(-1)
