"""ivon-opt: an IVON step with one sample, and torch's Adam step on the same network and loss."""

from __future__ import annotations

import ivon
import torch
import torch_parts as parts
import worker
import workload
from torch import Tensor

# The default, 0.1, diverged here: the loss passed 1e9 within a few thousand steps.
LEARNING_RATE = 1e-3


def ivon_step() -> worker.Run:
    """IVON with its defaults but the learning rate and the prior precision 1/N that stands for N(0, 1)."""
    torch.manual_seed(workload.SEED)
    net = parts.network()
    optimiser = ivon.IVON(net.parameters(), lr=LEARNING_RATE, ess=workload.ROWS, weight_decay=1 / workload.ROWS)

    def step(batch: parts.Batch) -> Tensor:
        x, y = batch
        with optimiser.sampled_params(train=True):
            optimiser.zero_grad()
            loss = parts.negative_log_likelihood(net(x), y)
            loss.backward()
        optimiser.step()
        return loss

    return parts.repeated(step)


def adam_step() -> worker.Run:
    """The deterministic step: torch's Adam with its defaults."""
    net = parts.network()
    optimiser = torch.optim.Adam(net.parameters(), lr=workload.LEARNING_RATE)

    def step(batch: parts.Batch) -> Tensor:
        x, y = batch
        optimiser.zero_grad()
        loss = parts.negative_log_likelihood(net(x), y)
        loss.backward()
        optimiser.step()
        return loss

    return parts.repeated(step)


WORKLOADS = {"ivon": ivon_step, "adam": adam_step}

if __name__ == "__main__":
    worker.main(WORKLOADS, __doc__)
