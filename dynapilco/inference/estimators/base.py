"""Gradient estimators of variational inference: how the expected log-likelihood is sampled during training.

All have one form: ``estimate(q, state, batch, samples, generator) -> (f, theta)`` with outputs f (S * K, B, *out),
member-major, whose expectation over noise of any function of one row is that under q; and the weights theta (S, K, n)
behind them, or None where a row has weights of its own. None of them is a function: they are of no use in a draw.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dynapilco.inference.posteriors import Posterior, Variational
from dynapilco.inference.target import Batch

Estimator = Callable[[Posterior, Variational, Batch, int, torch.Generator], tuple[Tensor, Tensor | None]]


def repeat(tensor: Tensor, samples: int) -> Tensor:
    """Every member's row K = ``samples`` times, (S, *) -> (S * K, *), member-major."""
    return tensor if samples == 1 else tensor.repeat_interleave(samples, 0)


def reparameterised(
    q: Posterior, variational: Variational, batch: Batch, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """One weight vector for all rows of a sample: theta = g(e; variational) (Kingma & Welling 2014)."""
    theta = q.sample(variational, samples, generator, antithetic=True)
    return batch.outputs(theta.flatten(0, 1), repeat(variational["points"], samples)), theta
