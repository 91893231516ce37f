"""The check of a prior at its registration, on a layer of nine parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Normal

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.likelihoods.feedback import Probe, needs_options

if TYPE_CHECKING:
    from dynapilco.inference.priors.base import Prior

LAYOUT = ParameterLayout(("0.weight", "0.bias"), (torch.Size((3, 2)), torch.Size((3,))))
SIZE = 2


def check_shapes(where: str, cls: type, own_curvature: bool) -> None:
    """Call all functions of ``cls()`` on a tiny example; classes that cannot be made without options are passed.

    Raises
    ------
    UserError
        Naming the function, what was expected of it and what came instead.
    """
    if needs_options(cls):
        return
    example = cls()
    try:
        example.std(LAYOUT)
    except UserError:  # made for other parameters
        return
    probe, n = Probe(where, example), LAYOUT.total
    std = probe.tensor("std", LAYOUT, shape=(n,), meaning="the spread of each weight")
    if not bool((std > 0).all()):
        raise probe.fail(f".std returned {std.min().item():g}: expected numbers above 0")
    _check_sample(probe, n)
    params = torch.linspace(-1, 1, SIZE * n, dtype=torch.float64).reshape(SIZE, n).requires_grad_(True)
    value = probe.tensor("log_prob", params, LAYOUT, shape=(SIZE,), meaning="a log density for each row of params")
    if value.dtype != torch.float64:
        raise probe.fail(f".log_prob returned {value.dtype} for params of {params.dtype}: expected the same dtype")
    if not value.requires_grad:
        raise probe.fail(".log_prob has no gradient with respect to params: write it in torch operations")
    _check_structure(probe, example, params, std, own_curvature)


def _check_sample(probe: Probe, n: int) -> None:
    first, again = (
        probe.tensor(
            "sample", LAYOUT, SIZE, torch.Generator().manual_seed(0), shape=(SIZE, n), meaning="parameter vectors"
        )
        for _ in range(2)
    )
    if not torch.equal(first, again):
        raise probe.fail(".sample gave other numbers for the same generator: draw everything from its argument")


def _check_structure(probe: Probe, example: Prior, params: Tensor, std: Tensor, own_curvature: bool) -> None:
    if example.gaussian:
        truth = Normal(torch.zeros_like(std), std).log_prob(params).sum(-1)
        if not torch.allclose(example.log_prob(params, LAYOUT), truth, rtol=1e-4, atol=1e-4):
            raise probe.fail(".gaussian is True, but .log_prob is not the log density of N(0, std^2)")
    elif not own_curvature:
        gradient = _gradient(example, params)
        moved = params.detach().clone()
        moved[:, 0] += 0.5
        others = _gradient(example, moved.requires_grad_(True))[:, 1:]
        if not torch.allclose(others, gradient[:, 1:], rtol=1e-4, atol=1e-6):
            raise probe.fail(".log_prob lets weights depend on each other: then define curvature(params, layout) too")


def _gradient(example: Prior, params: Tensor) -> Tensor:
    return torch.autograd.grad(example.log_prob(params, LAYOUT).sum(), params)[0]
