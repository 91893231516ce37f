"""Relevances, scales and noises of each data set, as named tensors with a row for each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dynapilco.inference.evidence.objective import Hyper, first_log_scales, potential, structure
from dynapilco.inference.target import Batch, BayesianModel

NAMES = ("log_relevance", "log_scale", "raw_noise")


def initial_hyper(
    model: BayesianModel, points: Tensor, replicas: int, groups: int, *, learned: bool
) -> dict[str, Tensor]:
    """All inputs equally relevant, noise as in points (S, k + m); outputs own a group where that is learned."""
    inputs, groups = structure(model, groups)
    log_scale = first_log_scales(model.outputs, groups, learned=learned).to(points)
    return {
        "log_relevance": points.new_zeros(replicas, groups, inputs),
        "log_scale": log_scale.expand(replicas, -1, -1).clone(),
        "raw_noise": model.split_points(points)[0][:: len(points) // replicas].clone(),
    }


def hyper_of(state: Mapping[str, Tensor], r: int) -> Hyper:
    """Those of data set r."""
    return state["log_relevance"][r], state["log_scale"][r], state["raw_noise"][r : r + 1]


def gradients(
    state: Mapping[str, Tensor], batch: Batch, learned: tuple[str, ...], most: int, spread: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Potentials of the data sets, (R,), and their gradients in the tensors called ``learned``."""
    leaves = {name: state[name].detach().requires_grad_(True) for name in learned if state[name].numel()}
    now, values = {**state, **leaves}, []
    with torch.enable_grad():
        for r in range(len(state["log_scale"])):
            kernels = state["kernels"][r] if "kernels" in state else None
            modes = state["modes"][r] if "modes" in state else None
            values.append(potential(batch, r, kernels, hyper_of(now, r), most, spread, modes))
        total = torch.stack(values)
        found = torch.autograd.grad(total.sum(), list(leaves.values())) if leaves else ()
    return total.detach(), dict(zip(leaves, found, strict=True))
