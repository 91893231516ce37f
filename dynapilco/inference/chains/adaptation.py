"""Adaptation of HMC during burn-in: step size by dual averaging, mass from variances in growing windows.

**Step size.** With acceptance a_t of proposal t and aim delta (Hoffman & Gelman 2014, eq. 6; gamma = 0.05, t0 = 10,
kappa = 0.75):

    E <- (1 - 1/(t + t0)) E + (delta - a_t) / (t + t0)
    log eps_t = mu - sqrt(t) / gamma E,    log eps_bar <- t^-kappa log eps_t + (1 - t^-kappa) log eps_bar

with mu = log(10 eps_0), and log(eps_0) after a window; eps_bar is used after burn-in.

**Mass.** M^-1 is diagonal. At the end of a window over T proposals

    M_ii^-1 = sqrt( Var[theta_i] / Var[dU / dtheta_i] ),

the diagonal that minimises the Fisher divergence of a Gaussian fit (as nutpie does). For
independent coordinates it is the variance, whichever share of it the window has seen: numerator and denominator shrink
together. That makes short windows enough. A coordinate that did not move keeps its mass.

**Windows** (as in Stan): the first 15 % of burn-in for the step size alone, then windows of 1, 2 and 4 parts of the
next 65 %, the last 20 % for the step size again. Below ``LEAST_BURN`` moves of burn-in the mass is not adapted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynapilco.inference.chains.curvature import largest_curvature, row_curvature
from dynapilco.inference.chains.gradient import PotentialFunction
from dynapilco.inference.chains.hamiltonian import Move, first_step_size
from dynapilco.inference.chains.schedule import Moment
from dynapilco.inference.method import State

GAMMA, DELAY, KAPPA = 0.05, 10.0, 0.75
LEAST_BURN = 30
REACH_AGAIN = 1.0
"""mu = log(REACH_AGAIN eps_0) after a window: few proposals are left, and a large mu takes many to get over."""

SOFTEST = 1e-6
"""Smallest first mass, in units of the largest curvature."""


def first_mass(potential: PotentialFunction, position: Tensor, generator: torch.Generator) -> Tensor:
    """A mass (S, d) for the first proposals: the length of the Hessian's rows."""
    largest = largest_curvature(potential, position, 1.0, generator)
    return row_curvature(potential, position, largest, generator).clamp(min=SOFTEST * largest)


def adapt(
    state: State,
    potential: PotentialFunction,
    move: Move,
    when: Moment,
    aim: float,
    mass: bool,
    generator: torch.Generator,
) -> None:
    """Learn from one proposal of burn-in: the step size towards acceptance ``aim``, and the mass where ``mass``."""
    place = move.place
    adapt_step_size(state, move.probability.unsqueeze(-1).to(place.position.dtype), aim)
    start, ends = window_ends(when.plan.burn) if mass else (when.plan.burn, ())
    if start <= when.number:
        extend_window(state, place.position, place.gradient)
    if when.number + 1 in ends:
        close_window(state)
        step = first_step_size(potential, place, state["log_step_mean"].exp(), state["inverse_mass"], generator)
        start_step_size(state, step, REACH_AGAIN)


def start_step_size(state: State, step: Tensor, reach: float = 10.0) -> None:
    """Begin dual averaging at step sizes (S, 1), drawn towards ``reach`` times as much."""
    state["log_step"] = step.log()
    state["log_step_mean"] = step.log()
    state["log_step_centre"] = (reach * step).log()
    state["step_error"] = torch.zeros_like(step)
    state["step_count"] = torch.zeros((), dtype=step.dtype, device=step.device)


def adapt_step_size(state: State, acceptance: Tensor, aim: float) -> None:
    """Take in the acceptance probabilities (S, 1) of one proposal."""
    count = state["step_count"].add_(1)
    share = 1 / (count + DELAY)
    state["step_error"].mul_(1 - share).add_(share * (aim - acceptance))
    state["log_step"].copy_(state["log_step_centre"] - count.sqrt() / GAMMA * state["step_error"])
    weight = count**-KAPPA
    state["log_step_mean"].mul_(1 - weight).add_(weight * state["log_step"])


def window_ends(burn: int) -> tuple[int, tuple[int, ...]]:
    """Number of the first proposal that counts for the mass, and the numbers at which a window is full."""
    if burn < LEAST_BURN:
        return burn, ()
    start, stop = math.ceil(0.15 * burn), burn - math.ceil(0.2 * burn)
    part = (stop - start) / 7
    return start, (start + round(part), start + round(3 * part), stop)


def start_window(state: State, like: Tensor) -> None:
    """Begin a window: no draws seen, of positions and gradients like ``like`` (S, d)."""
    for name in ("position", "gradient"):
        state[f"window_mean_{name}"] = torch.zeros_like(like)
        state[f"window_squares_{name}"] = torch.zeros_like(like)
    state["window_count"] = torch.zeros((), dtype=like.dtype, device=like.device)


def extend_window(state: State, position: Tensor, gradient: Tensor) -> None:
    """Take one draw into the window (Welford's update)."""
    count = state["window_count"].add_(1)
    for name, value in (("position", position), ("gradient", gradient)):
        mean = state[f"window_mean_{name}"]
        before = value - mean
        mean.add_(before / count)
        state[f"window_squares_{name}"].addcmul_(before, value - mean)


def close_window(state: State) -> None:
    """Set ``inverse_mass`` from the window, and begin the next one."""
    ratio = state["window_squares_position"] / state["window_squares_gradient"]
    seen = torch.isfinite(ratio) & (ratio > 0)
    state["inverse_mass"] = torch.where(seen, ratio.sqrt(), state["inverse_mass"])
    start_window(state, state["inverse_mass"])
