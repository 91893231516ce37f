"""Hamiltonian moves of S chains at once, on any potential: leapfrog, accept or reject, first step size.

    H(q, p) = U(q) + p' M^-1 p / 2,    p ~ N(0, M),    accept with probability min(1, exp(H - H'))

Source: Neal (2011), "MCMC using Hamiltonian dynamics". M is diagonal and each chain's own, given as M^-1 (S, d).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.chains.curvature import normal_like
from dynapilco.inference.chains.gradient import PotentialFunction

DIVERGENT = 1000.0
"""Rise of H over a path, in nats, that no exact integrator would show (Betancourt 2016; Stan's threshold)."""

FIRST_ACCEPTANCE = 0.8


@dataclass(frozen=True)
class Place:
    """Where chains stand: position (S, d), potential (S,) float64 and gradient (S, d) there."""

    position: Tensor
    potential: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Move:
    """A proposal's outcome: the new place, acceptance probability (S,), accepted (S,) and divergent (S,)."""

    place: Place
    probability: Tensor
    accepted: Tensor
    divergent: Tensor


def place_at(potential: PotentialFunction, position: Tensor) -> Place:
    """Evaluate ``potential`` at positions (S, d)."""
    values, gradient = potential(position)
    return Place(position, values.double(), gradient.clone())


@torch.no_grad()
def leapfrog(
    potential: PotentialFunction, place: Place, momentum: Tensor, step: Tensor, inverse_mass: Tensor, length: int
) -> tuple[Place, Tensor]:
    """Follow the dynamics for ``length`` steps: the place at the end and the momentum (S, d) there.

    One gradient a step: the one at the start is known, two half kicks in a row are one whole kick.

    Parameters
    ----------
    potential : callable
    place : Place
    momentum : Tensor
        (S, d).
    step : Tensor
        Step size of each chain, (S, 1).
    inverse_mass : Tensor
        (S, d).
    length : int
        At least 1.
    """
    q, p = place.position.clone(), momentum.addcmul(step, place.gradient, value=-0.5)
    drift = step * inverse_mass
    for count in range(1, length + 1):
        q.addcmul_(drift, p)
        values, gradient = potential(q)
        p.addcmul_(step, gradient, value=-0.5 if count == length else -1.0)
    return Place(q, values.double(), gradient.clone()), p


def kinetic(momentum: Tensor, inverse_mass: Tensor) -> Tensor:
    """P' M^-1 p / 2, (S,) in float64."""
    return 0.5 * (momentum.square() * inverse_mass).sum(-1, dtype=torch.float64)


@torch.no_grad()
def propose(
    potential: PotentialFunction,
    place: Place,
    step: Tensor,
    inverse_mass: Tensor,
    length: int,
    generator: torch.Generator,
) -> Move:
    """One proposal of every chain, accepted or rejected chain by chain."""
    momentum = normal_like(place.position, generator) / inverse_mass.sqrt()
    end, last = leapfrog(potential, place, momentum, step, inverse_mass, length)
    rise = end.potential + kinetic(last, inverse_mass) - place.potential - kinetic(momentum, inverse_mass)
    probability = torch.nan_to_num((-rise).exp().clamp(max=1.0), nan=0.0)
    uniform = torch.rand(rise.shape, generator=generator, device=rise.device, dtype=rise.dtype)
    accepted = uniform < probability
    chosen = Place(
        torch.where(accepted.unsqueeze(-1), end.position, place.position),
        torch.where(accepted, end.potential, place.potential),
        torch.where(accepted.unsqueeze(-1), end.gradient, place.gradient),
    )
    return Move(chosen, probability, accepted, ~(rise <= DIVERGENT))


@torch.no_grad()
def first_step_size(
    potential: PotentialFunction, place: Place, step: Tensor, inverse_mass: Tensor, generator: torch.Generator
) -> Tensor:
    """A step size (S, 1) at which one leapfrog step is accepted with probability about ``FIRST_ACCEPTANCE``.

    From ``step`` on, each chain halves or doubles it until its acceptance crosses that mark (Hoffman & Gelman 2014,
    algorithm 4, there with 0.5), with one momentum throughout.
    """
    momentum = normal_like(place.position, generator) / inverse_mass.sqrt()
    before = place.potential + kinetic(momentum, inverse_mass)

    def good(size: Tensor) -> Tensor:
        end, last = leapfrog(potential, place, momentum, size, inverse_mass, 1)
        change = before - end.potential - kinetic(last, inverse_mass)
        return (torch.nan_to_num(change.exp(), nan=0.0) > FIRST_ACCEPTANCE).unsqueeze(-1)

    up = good(step)
    searching = torch.ones_like(up)
    for _ in range(50):
        factor = torch.where(up, 2.0, 0.5).to(step.dtype)
        step = torch.where(searching, step * factor, step)
        searching = searching & (good(step) == up)
        if not bool(searching.any()):
            break
    return torch.where(up, step / 2, step)
