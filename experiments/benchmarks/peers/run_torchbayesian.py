"""torchbayesian: a Bayes-by-backprop step with one sample, Gaussian negative log-likelihood + KL/N, Adam."""

from __future__ import annotations

import torch
import torch_parts as parts
import worker
import workload
from torch import Tensor
from torchbayesian.bnn import BayesianModule


def bbb(samples: int) -> worker.Run:
    """The loop over samples is torchbayesian's own habit: one forward pass draws one set of weights."""
    torch.manual_seed(workload.SEED)
    net = BayesianModule(parts.network())
    optimiser = torch.optim.Adam(net.parameters(), lr=workload.LEARNING_RATE)

    def step(batch: parts.Batch) -> Tensor:
        x, y = batch
        optimiser.zero_grad()
        fit = torch.stack([parts.negative_log_likelihood(net(x), y) for _ in range(samples)]).mean()
        loss = fit + net.kl_divergence() / workload.ROWS
        loss.backward()
        optimiser.step()
        return loss

    return parts.repeated(step)


WORKLOADS = {"bbb_1": lambda: bbb(1), "bbb_10": lambda: bbb(10)}

if __name__ == "__main__":
    worker.main(WORKLOADS, __doc__)
