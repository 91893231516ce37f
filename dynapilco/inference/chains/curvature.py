"""Curvature of a potential from differences of gradients: no second derivatives, any potential.

With a positive scale s (S, d) the operator is ``diag(s) H diag(s)``: the Hessian in the coordinates in which a
preconditioned chain moves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.inference.chains.gradient import PotentialFunction

ITERATIONS = 15
PROBES = 10
REACH = 0.1
"""Length of a difference, in standard deviations of the stiffest direction: there U is all but quadratic."""


def largest_curvature(
    potential: PotentialFunction, position: Tensor, scale: Tensor | float, generator: torch.Generator
) -> Tensor:
    """Largest eigenvalue (in size) of the scaled Hessian at each position (S, d), by power iteration: (S, 1)."""
    start = unit_like(position, generator)
    return stiffest_direction(potential, position, scale, start, ITERATIONS)[0]


@torch.no_grad()
def stiffest_direction(
    potential: PotentialFunction, position: Tensor, scale: Tensor | float, direction: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Power iteration from unit vectors ``direction`` (S, d): the eigenvalue (S, 1) and its direction (S, d).

    From below: the eigenvalue is at most the true one, up to the change of the Hessian within reach.
    """
    size = torch.ones_like(position[:, :1])
    for _ in range(iterations):
        product = _product(potential, position, direction, scale, REACH / size.sqrt())
        size = product.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny ** 0.5)
        direction = product / size
    return size, direction


@torch.no_grad()
def row_curvature(
    potential: PotentialFunction, position: Tensor, largest: Tensor, generator: torch.Generator
) -> Tensor:
    """Root mean square of ``H v`` over random signs v: the length of each row of the Hessian, (S, d).

    Always positive and equal to the diagonal where H is diagonal: the equilibration preconditioner (Dauphin, de Vries
    & Bengio 2015).

    Parameters
    ----------
    largest : Tensor
        Largest curvature (S, 1), which sets the length of the differences.
    """
    total = torch.zeros_like(position)
    for _ in range(PROBES):
        signs = normal_like(position, generator).sign()
        total += _product(potential, position, signs, 1.0, REACH / largest.sqrt()).square()
    return (total / PROBES).sqrt()


def normal_like(position: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape of ``position``."""
    return torch.randn(position.shape, generator=generator, device=position.device, dtype=position.dtype)


def unit_like(position: Tensor, generator: torch.Generator) -> Tensor:
    """Random unit vectors of the shape of ``position``."""
    vector = normal_like(position, generator)
    return vector / vector.norm(dim=-1, keepdim=True)


def _product(
    potential: PotentialFunction, position: Tensor, vector: Tensor, scale: Tensor | float, length: Tensor
) -> Tensor:
    """``diag(s) H diag(s) v`` by a central difference of half-width ``length`` (S, 1)."""
    reach = length * scale * vector
    ahead = potential(position + reach)[1].clone()  # the potential may reuse its buffer
    return scale * (ahead - potential(position - reach)[1]) / (2 * length)
