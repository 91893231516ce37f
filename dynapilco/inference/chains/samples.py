"""The samples that chains keep: stored chain by chain, drawn evenly from all of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.draws import spread
from dynapilco.inference.method import State
from dynapilco.inference.target import BayesianModel


def forget_samples(state: State, keep: int) -> None:
    """Room for ``keep`` samples of each chain, none of them filled."""
    for name, like in (("samples", state["params"]), ("sample_points", state["points"])):
        state[name] = like.new_zeros(like.shape[0], keep, like.shape[1])
    state["kept"] = torch.zeros((), dtype=torch.int64, device=state["params"].device)


def keep_sample(state: State, slot: int) -> None:
    """Store where the chains are as sample number ``slot``; -1 stores nothing."""
    if slot < 0:
        return
    state["samples"][:, slot] = state["params"]
    state["sample_points"][:, slot] = state["points"]
    state["kept"].fill_(slot + 1)


def stored_samples(state: State) -> tuple[Tensor, Tensor]:
    """Weights (S, T, n) and points (S, T, k + m) of the T samples that each chain has; where it stands before any."""
    kept = int(state["kept"]) if "kept" in state else 0
    if kept == 0:
        return state["params"].unsqueeze(1), state["points"].unsqueeze(1)
    return state["samples"][:, :kept], state["sample_points"][:, :kept]


def pick(chains: int, kept: int, size: int, generator: torch.Generator) -> Tensor:
    """Choose ``size`` samples: rows (chain, sample), (size, 2).

    Chains are used as evenly as can be, and the samples of a chain lie equally far apart from a random start
    (systematic sampling). Nothing is repeated while ``size <= chains * kept``, and every sample is as likely as any.
    """
    if size < 1:
        raise UserError(f"draw size {size}: expected at least 1")
    device = generator.device
    every = torch.cartesian_prod(torch.arange(chains, device=device), torch.arange(kept, device=device))
    whole, rest = divmod(size, chains * kept)
    rows = [every] * whole
    if rest:
        counts = torch.bincount(spread(chains, rest, generator), minlength=chains)
        offsets = torch.rand(chains, generator=generator, device=device, dtype=torch.float64)
        for chain, count in enumerate(counts.tolist()):
            place = (offsets[chain] + torch.arange(count, device=device)) * (kept / max(count, 1))
            sample = place.long().clamp(max=kept - 1)
            rows.append(torch.stack([torch.full_like(sample, chain), sample], dim=-1))
    return torch.cat(rows)


def chain_functions(model: BayesianModel, state: State, x: Tensor) -> Tensor:
    """Outputs of every kept sample of every chain on probe inputs, for R-hat and effective sample sizes.

    Parameters
    ----------
    model : BayesianModel
    state : State
        Of one data set.
    x : Tensor
        (B, *in).

    Returns
    -------
    Tensor
        (chains, samples, B, *out): what ``dynapilco.inference.diagnostics.rhat`` takes.
    """
    return torch.stack(list(_each_chain(model, state, x)))


@torch.no_grad()
def _each_chain(model: BayesianModel, state: State, x: Tensor) -> Iterator[Tensor]:
    for params, points in zip(*stored_samples(state), strict=True):
        yield model.functions(params, points)(x)
