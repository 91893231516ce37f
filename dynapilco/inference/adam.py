"""Adam with warm-up and cosine decay on stacked parameters, its moments kept in the state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

WARM_UP = 50

BETAS = (0.9, 0.99)


def cosine_rate(rate: float, done: int, steps: int) -> float:
    """Learning rate of update number ``done``: linear warm-up over ``WARM_UP`` updates, cosine decay to zero."""
    return rate * min(1.0, (done + 1) / min(WARM_UP, steps)) * 0.5 * (1 + math.cos(math.pi * done / steps))


def adam_begin(state: dict[str, Tensor], names: Sequence[str]) -> None:
    """Zero the moments of the tensors ``names`` of ``state``."""
    for name in names:
        state[f"adam_first_{name}"] = torch.zeros_like(state[name])
        state[f"adam_second_{name}"] = torch.zeros_like(state[name])
        state[f"adam_count_{name}"] = torch.zeros((), device=state[name].device)


@torch.no_grad()
def adam_step(
    state: dict[str, Tensor],
    gradients: Mapping[str, Tensor],
    rate: float,
    factors: Mapping[str, Tensor] | None = None,
    betas: tuple[float, float] = BETAS,
) -> None:
    """One update of the named tensors in place (Kingma & Ba 2015).

    Parameters
    ----------
    state : dict
        With the tensors and their moments (``adam_begin``).
    gradients : mapping
        By name, of the shape of the tensor.
    rate : float
        Learning rate.
    factors : mapping, optional
        For a name: factors on its rate, broadcast over its last axis.
    """
    own = {} if factors is None else factors
    plain = [name for name in gradients if name not in own]
    if plain:
        _update(state, plain, [gradients[name] for name in plain], rate, betas)
    for name in gradients:
        if name in own and gradients[name].numel():
            before = state[name].detach().clone()
            _update(state, [name], [gradients[name]], rate, betas)
            state[name].detach().add_((state[name].detach() - before) * (own[name] - 1))


def _update(
    state: dict[str, Tensor], names: list[str], gradients: list[Tensor], rate: float, betas: tuple[float, float]
) -> None:
    values = [state[name].detach() for name in names]
    adam(
        values, [gradient.contiguous() for gradient in gradients],
        [state[f"adam_first_{name}"] for name in names], [state[f"adam_second_{name}"] for name in names], [],
        [state[f"adam_count_{name}"] for name in names],
        fused=all(v.device.type in ("cpu", "cuda") and v.is_floating_point() for v in values),
        amsgrad=False, beta1=betas[0], beta2=betas[1], lr=rate, weight_decay=0.0, eps=1e-8, maximize=False,
    )  # fmt: skip
