"""Adam with warm-up and cosine decay on stacked parameters, shared by the methods that optimise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dynapilco.inference.method import State

NOISE_RATE = 3.0
"""The noise scales learn this much faster than the weights: a sigma that lags behind blurs every rollout."""

WARM_UP = 50


class CosineAdam:
    """Minimises U / N over ``params`` and ``noise`` of a state, in place (Kingma & Ba 2015; cosine to zero).

    Parameters
    ----------
    state : State
        With ``params`` (S, n) and ``noise`` (S, out).
    objective : callable
        ``objective(params, noise, generator)`` -> potential per row, (S,).
    rate : float
        Peak learning rate.
    steps : int
        Length of the schedule.
    """

    def __init__(
        self,
        state: State,
        objective: Callable[[Tensor, Tensor, torch.Generator], Tensor],
        rate: float,
        steps: int,
    ) -> None:
        self.params = state["params"].requires_grad_(True)
        self.noise = state["noise"].requires_grad_(True)
        self.objective, self.rate, self.steps, self.done = objective, rate, steps, 0
        groups = [{"params": [self.params], "factor": 1.0}, {"params": [self.noise], "factor": NOISE_RATE}]
        self.adam = torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99))

    def step(self, generator: torch.Generator) -> Tensor:
        """One update of all members."""
        rate = self.rate * min(1.0, (self.done + 1) / min(WARM_UP, self.steps))
        rate *= 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
        for group in self.adam.param_groups:
            group["lr"] = rate * group["factor"]
        values = self.objective(self.params, self.noise, generator)
        self.params.grad, self.noise.grad = torch.autograd.grad(values.sum(), (self.params, self.noise))
        self.adam.step()
        self.done += 1
        if self.done == self.steps:
            self.params.requires_grad_(False)
            self.noise.requires_grad_(False)
        return values.detach()
