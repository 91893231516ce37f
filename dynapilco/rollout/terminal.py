"""What a state is worth beyond the end of a short rollout: a learned value function.

    V(x) ~ E[ sum_k gamma^k r_k ],   fitted to   G_t = r_t + gamma c_t ((1 - lambda) V(x_{t+1}) + lambda G_{t+1})

(lambda-returns: Sutton & Barto 2018, chapter 12), c_t the probability that the episode goes on; rollouts that end with
a value see past their horizon (Feinberg et al. 2018; Clavera et al. 2020). Time limits are no ends: there the value
goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dynapilco.dynamics.encoding import Geometry, Normaliser
from dynapilco.inference.stack import DenseStack

MEMBERS, HIDDEN = 3, (64, 64)
ROUNDS, UPDATES, BATCH, RATE = 20, 50, 256, 3e-3
"""Lambda-returns are computed anew in each round, with the values of the last one; gradient steps of a round; rows of a
minibatch, for each member its own; Adam's rate."""
LAMBDA = 0.95


@dataclass(frozen=True)
class Paths:
    """Episodes or pieces of them, side by side.

    Attributes
    ----------
    states : Tensor
        (T+1, N, D).
    rewards, goes_on : Tensor
        (T, N); the probability that the episode goes on after the step.
    """

    states: Tensor
    rewards: Tensor
    goes_on: Tensor


@dataclass(frozen=True)
class TerminalValue:
    """A fitted value function: the mean of a few networks, kept within what rewards allow.

    Attributes
    ----------
    geometry : Geometry
    stack : DenseStack
        Of features (D + 2A) to one output, for each member.
    low, high : Tensor
        (), the least and the most that a state can be worth.
    """

    geometry: Geometry
    stack: DenseStack
    low: Tensor
    high: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        """Values (...,) of states (..., D); differentiable."""
        rows = self.geometry.features(states).reshape(-1, self.geometry.state_features)
        values = self.stack(rows.expand(self.stack.groups, *rows.shape)).mean(0).squeeze(-1)
        return values.clamp(self.low, self.high).reshape(states.shape[:-1])

    def tensors(self) -> dict[str, Tensor]:
        """All that :meth:`of_tensors` needs beside the geometry."""
        named = {"low": self.low, "high": self.high}
        for i, (w, b) in enumerate(zip(self.stack.weights, self.stack.biases, strict=True)):
            named |= {f"weight{i}": w, f"bias{i}": b}
        return named

    @classmethod
    def of_tensors(cls, geometry: Geometry, named: dict[str, Tensor]) -> TerminalValue:
        """The inverse of :meth:`tensors`."""
        layers = range((len(named) - 2) // 2)
        weights, biases = (tuple(named[f"{kind}{i}"] for i in layers) for kind in ("weight", "bias"))
        return cls(geometry, DenseStack(weights, biases, (None,) * (len(layers) - 1)), named["low"], named["high"])


def lambda_returns(values: Tensor, paths: Paths, discount: float) -> Tensor:
    """G_t (T, N) of values (T+1, N) along paths."""
    target, found = values[-1], []
    for t in range(len(paths.rewards) - 1, -1, -1):
        ahead = (1 - LAMBDA) * values[t + 1] + LAMBDA * target
        target = paths.rewards[t] + discount * paths.goes_on[t] * ahead
        found.append(target)
    return torch.stack(found[::-1])


def fit_value(
    geometry: Geometry,
    paths: Sequence[Paths],
    discount: float,
    bounds: tuple[float, float],
    generator: torch.Generator,
    before: TerminalValue | None = None,
) -> tuple[TerminalValue, float]:
    """Fit a value function to paths; and the root mean squared error of its last round, as a share of their spread.

    Outputs are kept in units of the lambda-returns of each round (van Hasselt et al. 2016, "Learning values across many
    orders of magnitude"): what rewards allow may be a thousand times as wide, as of a reward that only a goal pays.

    Parameters
    ----------
    geometry : Geometry
    paths : sequence of Paths
    discount : float
        gamma, below 1.
    bounds : (float, float)
        Least and largest reward of a step.
    generator : torch.Generator
        On the device of the paths.
    before : TerminalValue, optional
        Whose values the first round begins with.
    """
    low, high = (torch.tensor(bound / (1 - discount), device=generator.device) for bound in bounds)
    least = 1e-6 * torch.maximum(low.abs(), high.abs()).clamp_min(1.0)
    rows = [path for path in paths if len(path.rewards)]
    features = torch.cat([geometry.features(path.states[:-1]).flatten(0, 1) for path in rows])
    kept = geometry.selection().to(generator.device)
    inputs = Normaliser.of_inputs(features @ kept)
    params = _initial(kept.shape[1], generator)
    adam = torch.optim.Adam([*params.weights, *params.biases], lr=RATE)
    value, loss, unit = before, torch.zeros((), device=generator.device), None
    for _ in range(ROUNDS):
        with torch.no_grad():
            targets = [lambda_returns(_values(value, path), path, discount).flatten() for path in rows]
        wanted = torch.cat(targets).clamp(low, high)
        centre, width = wanted.mean(), wanted.std(correction=0).maximum(least)
        if unit is not None:
            _to_unit(params, unit, (centre, width))
        unit = centre, width
        loss = _descend(params, adam, inputs(features @ kept), (wanted - centre) / width, generator)
        folded = params.fold_input(1 / inputs.std, -inputs.mean / inputs.std).fold_output(width, centre)
        value = TerminalValue(geometry, _detached(folded.project_input(kept)), low, high)
    assert value is not None
    return value, float(loss.sqrt())


def _values(value: TerminalValue | None, path: Paths) -> Tensor:
    return torch.zeros_like(path.states[..., 0]) if value is None else value(path.states)


def _initial(inputs: int, generator: torch.Generator) -> DenseStack:
    device, widths = generator.device, (inputs, *HIDDEN, 1)
    weights, biases = [], []
    for a, b in pairwise(widths):
        scale = 0.0 if b == 1 else a**-0.5  # begins at the mean
        weights.append(scale * torch.randn(MEMBERS, a, b, generator=generator, device=device))
        biases.append(torch.zeros(MEMBERS, b, device=device))
    leaves = [tuple(t.requires_grad_(True) for t in part) for part in (weights, biases)]
    return DenseStack(leaves[0], leaves[1], (None,) * len(HIDDEN))


@torch.no_grad()
def _to_unit(params: DenseStack, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> None:
    """Make outputs, so far in the unit (centre, width) ``old``, the same values in the unit ``new``; in place."""
    params.weights[-1].mul_(old[1] / new[1])
    params.biases[-1].copy_((params.biases[-1] * old[1] + old[0] - new[0]) / new[1])


def _descend(
    params: DenseStack, adam: torch.optim.Adam, inputs: Tensor, wanted: Tensor, generator: torch.Generator
) -> Tensor:
    """Some steps on minibatches; the mean of their squared errors."""
    total = torch.zeros((), device=wanted.device)
    leaves = [*params.weights, *params.biases]
    for _ in range(UPDATES):
        picked = torch.randint(len(wanted), (MEMBERS, BATCH), generator=generator, device=generator.device)
        error = (params(inputs[picked]).squeeze(-1) - wanted[picked]).square().mean(1)
        for leaf, gradient in zip(leaves, torch.autograd.grad(error.sum(), leaves), strict=True):
            leaf.grad = gradient
        adam.step()
        total += error.detach().mean()
    return total / UPDATES


def _detached(stack: DenseStack) -> DenseStack:
    weights, biases = (tuple(t.detach().clone() for t in part) for part in (stack.weights, stack.biases))
    return DenseStack(weights, biases, stack.masks, stack.activation)
