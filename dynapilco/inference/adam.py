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
    for name, gradient in gradients.items():
        value = state[name].detach()
        before = value.clone() if factors is not None and name in factors else None
        adam(
            [value], [gradient.contiguous()], [state[f"adam_first_{name}"]], [state[f"adam_second_{name}"]], [],
            [state[f"adam_count_{name}"]], fused=value.device.type in ("cpu", "cuda") and value.is_floating_point(),
            amsgrad=False, beta1=betas[0], beta2=betas[1], lr=rate, weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip
        if before is not None and factors is not None:
            value.add_((value - before) * (factors[name] - 1))
