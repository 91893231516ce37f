"""Which parameters a curvature is about, and which structure it has: settled by the model alone, before data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.curvature.ggn import local_models, prior_precision
from dynapilco.inference.curvature.kfac import blocks_of, called
from dynapilco.inference.curvature.kronecker import Kronecker
from dynapilco.inference.curvature.structure import Diagonal, Full, Structure, Tensors
from dynapilco.inference.draws.trunk import check_last_layer, last_layer, last_layer_refusal
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.target import BayesianModel, Target

SUBSETS = ("auto", "all", "last_layer")
STRUCTURES = ("auto", "full", "kfac", "diagonal")

FULL_BY_DEFAULT = 3000
"""Weights up to which ``"auto"`` takes the full matrix: its factors then cost about 2 s on one core."""

FULL_AT_MOST = 20_000
"""Weights beyond which a full matrix is refused: its factor would hold 3 GB in float64."""

PREFIX = "curvature_"


@dataclass(frozen=True)
class Plan:
    """A structure over some of the Bayesian parameters.

    Attributes
    ----------
    structure : Structure
    layout : ParameterLayout
        Of those parameters alone: m numbers.
    layer : str or None
        The last layer, where those parameters are its own.
    """

    structure: Structure
    layout: ParameterLayout
    layer: str | None

    def prior(self, model: BayesianModel, params: Tensor, temperature: float) -> Tensors:
        """What the state holds before data, at params (S, n)."""
        precision, floored = self._precision(model, params)
        return self._named(self.structure.prior(precision / temperature), params, floored)

    def posterior(self, target: Target, params: Tensor, points: Tensor) -> Tensors:
        """What the state holds after a fit: the curvature at params (S, n), points (S, k + m)."""
        precision, floored = self._precision(target.model, params)
        precision = precision / target.temperature
        locals_ = local_models(target, params, points)
        each = [self.structure.posterior(one, p) for one, p in zip(locals_, precision, strict=True)]
        return self._named({name: torch.stack([one[name] for one in each]) for name in each[0]}, params, floored)

    def sample(self, state: Tensors, members: Tensor, generator: torch.Generator) -> Tensor:
        """Deviations from the mean, (size, m): one for each entry of members (size,)."""
        own = {name.removeprefix(PREFIX): t for name, t in state.items() if name.startswith(PREFIX)}
        shape = (members.shape[0], self.layout.total)
        noise = torch.randn(shape, generator=generator, device=members.device, dtype=state["params"].dtype)
        for s in members.unique():
            rows = members == s
            noise[rows] = self.structure.transform({name: t[s] for name, t in own.items()}, noise[rows])
        return noise

    def check(self, target: Target, params: Tensor, points: Tensor) -> None:
        """Try the plan on two rows; ``UserError`` where the network does not run as the plan needs it."""
        one = next(local_models(target, params[:1], points[:1])) if target.sets == 1 else None
        one = one or next(local_models(target, params, points))
        one = next(one.chunks(2))
        if self.layer is not None:
            check_last_layer(target.model.network, one.full.unsqueeze(0), one.x)
        if isinstance(self.structure, Kronecker):
            runs = called(one, self.structure.blocks)
            idle = [b.layer for b, ok in zip(self.structure.blocks, runs, strict=True) if not ok]
            if idle:
                raise UserError(
                    f"structure='kfac': {', '.join(map(repr, idle))} never ran, but the network may use the weights; "
                    "call layers as modules, exclude their parameters, or use structure='diagonal'"
                )

    def scatter(self, deltas: Tensor, layout: ParameterLayout) -> Tensor:
        """Deviations (size, m) as changes of all Bayesian weights, (size, n)."""
        named = self.layout.split(deltas)
        size = deltas.shape[0]
        zeros = {name: deltas.new_zeros(size, *shape) for name, shape in zip(layout.names, layout.shapes, strict=True)}
        return layout.join(zeros | named)

    def _precision(self, model: BayesianModel, params: Tensor) -> tuple[Tensor, Tensor]:
        precision, floored = prior_precision(model, params)
        named = model.network.layout.split(precision)
        return self.layout.join(named), floored

    def _named(self, tensors: Tensors, params: Tensor, floored: Tensor) -> Tensors:
        named = {f"{PREFIX}{name}": t.to(params) for name, t in tensors.items()}
        return {**named, f"{PREFIX}floored": floored.to(params)}


def make_plan(network: StackedNetwork, subset: str, structure: str) -> Plan:
    """Choose parameters and structure.

    ``"auto"`` is everything in full up to ``FULL_BY_DEFAULT`` weights; beyond, the last layer (where there is one), in
    full up to as many weights, else by Kronecker factors.

    Raises
    ------
    UserError
        Where the network does not allow what was asked for (see ``plan_refusal``).
    """
    reason = plan_refusal(network, subset, structure)
    if reason is not None:
        raise UserError(reason)
    subset, structure = _settle(network, subset, structure)
    layer = last_layer(network.module) if subset == "last_layer" else None
    layout = _layout(network, layer if subset == "last_layer" else None)
    if structure == "kfac":
        blocks = tuple(blocks_of(network, layout.names))
        return Plan(Kronecker(layout.names, layout, blocks), layout, layer)
    return Plan((Full if structure == "full" else Diagonal)(layout.names), layout, layer)


def plan_refusal(network: StackedNetwork, subset: str, structure: str) -> str | None:
    """Why a network does not allow a subset or structure, or None."""
    if subset == "last_layer":
        reason = last_layer_refusal(network)
        if reason is not None:
            return f"subset='last_layer': {reason}; use subset='all'"
    subset, structure = _settle(network, subset, structure)
    size = _layout(network, last_layer(network.module) if subset == "last_layer" else None).total
    if structure == "full" and size > FULL_AT_MOST:
        return f"structure='full' with {size} weights needs a matrix of {8 * size**2 / 1e9:.0f} GB; use 'kfac'"
    return None


def _settle(network: StackedNetwork, subset: str, structure: str) -> tuple[str, str]:
    if subset == "auto":
        large = network.layout.total > FULL_BY_DEFAULT
        subset = "last_layer" if large and last_layer_refusal(network) is None else "all"
    if structure == "auto":
        size = _layout(network, last_layer(network.module) if subset == "last_layer" else None).total
        structure = "full" if size <= FULL_BY_DEFAULT else "kfac"
    return subset, structure


def _layout(network: StackedNetwork, layer: str | None) -> ParameterLayout:
    """Of all Bayesian parameters, or of those of one layer."""
    layout = network.layout
    if layer is None:
        return layout
    kept = [(n, s) for n, s in zip(layout.names, layout.shapes, strict=True) if n.rpartition(".")[0] == layer]
    return ParameterLayout(tuple(n for n, _ in kept), tuple(s for _, s in kept))
