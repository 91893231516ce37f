"""posteriors: SGLD and SGHMC steps of 8 chains by ``torch.vmap``, N(0, 1) prior, Gaussian likelihood."""

from __future__ import annotations

import posteriors
import torch
import torch_parts as parts
import worker
import workload
from torch import Tensor
from torch.func import functional_call

KINDS = {"sgld": posteriors.sgmcmc.sgld.build, "sghmc": posteriors.sgmcmc.sghmc.build}


def chains(kind: str) -> worker.Run:
    """One step of all chains. The log posterior is divided by N, the temperature with it, as posteriors advises."""
    torch.manual_seed(workload.SEED)
    net = parts.network()

    def log_posterior(params: dict[str, Tensor], batch: parts.Batch) -> tuple[Tensor, Tensor]:
        x, y = batch
        f = functional_call(net, params, (x,))
        prior = posteriors.diag_normal_log_prob(params, normalize=False)
        return prior / workload.ROWS - parts.negative_log_likelihood(f, y), torch.tensor([])

    transform = KINDS[kind](log_posterior, lr=workload.SAMPLER_STEP, temperature=1 / workload.ROWS)
    state = torch.vmap(transform.init, randomness="different")(parts.chains())
    update = torch.vmap(transform.update, in_dims=(0, None), randomness="different")

    def step(batch: parts.Batch) -> Tensor:
        nonlocal state
        state, _ = update(state, batch)
        return state.log_posterior

    return parts.repeated(step)


WORKLOADS = {"sgld_8": lambda: chains("sgld"), "sghmc_8": lambda: chains("sghmc")}

if __name__ == "__main__":
    worker.main(WORKLOADS, __doc__)
