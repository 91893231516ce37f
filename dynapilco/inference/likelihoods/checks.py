"""The check of a likelihood at its registration, on two functions and three rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods.feedback import Probe, needs_options
from dynapilco.inference.random import sample_distribution

if TYPE_CHECKING:
    from dynapilco.inference.likelihoods.base import Likelihood

MEMBERS, ROWS = 2, 3


def check_shapes(where: str, cls: type) -> None:
    """Call all functions of ``cls()`` on a tiny example; classes that cannot be made without options are passed.

    Raises
    ------
    UserError
        Naming the function, the shape expected and what came instead.
    """
    if needs_options(cls):
        return
    example = cls()
    probe = Probe(where, example)
    for outputs in (2, 1):
        try:
            width = example.network_outputs(outputs)
        except UserError:  # the likelihood serves no such number of columns
            continue
        return _check(probe, example, outputs, width)


def _check(probe: Probe, example: Likelihood, outputs: int, width: int) -> None:
    raw = probe.tensor("init", MEMBERS, outputs, shape=(MEMBERS, None), meaning="raw noise parameters of each member")
    noise = probe.tensor("constrain", raw, shape=(MEMBERS, None), meaning="noise parameters of each member")
    f = torch.linspace(-1, 1, MEMBERS * ROWS * width).reshape(MEMBERS, ROWS, width).requires_grad_(True)
    y = _targets(probe, noise, f.detach(), outputs)
    prepared = probe.tensor("prepare", y[0], outputs, shape=(ROWS, outputs), meaning="the targets")
    own = probe.tensor(
        "log_prob", raw, f, prepared, shape=(MEMBERS, ROWS), meaning="a log density for each function and row"
    )
    if not own.requires_grad:
        raise probe.fail(".log_prob has no gradient with respect to f: write it in torch operations, without detach")
    probe.tensor("log_prob", raw, f, y, shape=(MEMBERS, ROWS), meaning="for targets of each function's own")
    probe.tensor("log_prior", raw, shape=(MEMBERS,), meaning="a log density for each member")
    truth = example.distribution(noise, f).log_prob(prepared).sum(-1)
    if not torch.allclose(own, truth, rtol=1e-3, atol=1e-4):
        raise probe.fail(
            f".log_prob gives {own[0, 0].item():.6g} for the first row, the log density of .distribution summed over "
            f"the target columns gives {truth[0, 0].item():.6g}: expected the same, constants included"
        )


def _targets(probe: Probe, noise: Tensor, f: Tensor, outputs: int) -> Tensor:
    """Targets (MEMBERS, ROWS, outputs) inside the support: drawn from the likelihood itself."""
    found = probe.call("distribution", noise, f)
    shape = tuple(getattr(found, "batch_shape", ()))
    if shape != (MEMBERS, ROWS, outputs):
        raise probe.fail(
            f".distribution(noise {tuple(noise.shape)}, f {tuple(f.shape)}) returned {type(found).__name__} of batch "
            f"shape {shape}, expected {(MEMBERS, ROWS, outputs)}: functions, rows, target columns"
        )
    return sample_distribution(found, (), torch.Generator().manual_seed(0))
