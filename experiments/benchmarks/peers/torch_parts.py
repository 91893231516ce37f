"""What the torch peers share: the network with its starting weights, the batches and the Gaussian likelihood."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
import workload
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
torch.set_num_threads(1)


def network() -> nn.Sequential:
    """The network, at the weights of the workload."""
    layers: list[nn.Module] = []
    for weight, bias in workload.weights():
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def chains() -> dict[str, Tensor]:
    """Stacked parameters of all chains, by the names they have in ``network()``."""
    stacked: dict[str, Tensor] = {}
    for index, (weight, bias) in enumerate(workload.chain_starts()):
        stacked[f"{2 * index}.weight"] = torch.from_numpy(weight)
        stacked[f"{2 * index}.bias"] = torch.from_numpy(bias)
    return stacked


def epochs() -> Iterator[Batch]:
    """The batches, again and again."""
    return itertools.cycle([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in workload.batches()])


def negative_log_likelihood(f: Tensor, y: Tensor) -> Tensor:
    """Mean over the rows of -log N(y | f, SIGMA), up to a constant."""
    return ((f - y) / workload.SIGMA).square().sum(-1).mean() / 2


def repeated(step: Callable[[Batch], Tensor]) -> Callable[[int], float]:
    """``run(steps)`` that hands ``step`` one batch after the other and returns the mean of what the last step gave."""
    batches = epochs()

    def run(steps: int) -> float:
        for _ in range(steps - 1):
            step(next(batches))
        return float(step(next(batches)).detach().mean())

    return run
