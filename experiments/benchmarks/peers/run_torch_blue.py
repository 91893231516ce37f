"""torch_blue: a variational step with its own loss and samples=10, Adam.

Its loss scores y under a normal fitted to the samples and takes the KL by Monte Carlo: not the objective of the other
rows, and it needs two samples at least. The speed is compared, not what is learned.
"""

from __future__ import annotations

import torch
import torch_parts as parts
import worker
import workload
from torch import Tensor
from torch_blue import vi
from torch_blue.vi.distributions import MeanFieldNormal


def bbb(samples: int) -> worker.Run:
    """One step of ``samples`` weight samples."""
    torch.manual_seed(workload.SEED)
    net = parts.network()
    vi.convert_to_vimodule(net, keep_weights=True)
    criterion = vi.KullbackLeiblerLoss(MeanFieldNormal(), dataset_size=workload.ROWS)
    optimiser = torch.optim.Adam(net.parameters(), lr=workload.LEARNING_RATE)

    def step(batch: parts.Batch) -> Tensor:
        x, y = batch
        optimiser.zero_grad()
        loss = criterion(net(x, samples=samples), y)
        loss.backward()
        optimiser.step()
        return loss

    return parts.repeated(step)


WORKLOADS = {"bbb_10": lambda: bbb(10)}

if __name__ == "__main__":
    worker.main(WORKLOADS, __doc__)
