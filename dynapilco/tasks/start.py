"""Where episodes begin: as the environment names it, or by many resets."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from dynapilco.core.errors import EnvironmentFault
from dynapilco.tasks.attributes import own_attributes
from dynapilco.tasks.checks import numbers, refusal
from dynapilco.tasks.contract import Contract

RESETS = 256
"""How often an environment that does not name its start distribution is reset to estimate it."""


def start_of(env: gymnasium.Env, name: str, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean, standard deviation (size,) and, where the environment does not name them, samples (K, size).

    Raises
    ------
    UserError
        For a ``start_mean`` or ``start_std`` that cannot be meant, or one without the other.
    EnvironmentFault
        For resets that give what they must not.
    """
    named = own_attributes(env.unwrapped, ["start_mean", "start_std"])
    if named:
        mean, std = _gaussian(name, named, size)
        return torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32), None
    contract = Contract(env, tell=lambda _: None)  # what is odd is told when the first trial is
    try:
        resets = np.stack([contract.reset(seed)[0].astype(np.float64) for seed in range(RESETS)])
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"environment {name!r}: {fault}") from fault
    mean, std = (torch.tensor(values, dtype=torch.float32) for values in (resets.mean(0), resets.std(0)))
    return mean, std, torch.tensor(resets, dtype=torch.float32)


def _gaussian(name: str, named: dict[str, Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    for given, other in (("start_mean", "start_std"), ("start_std", "start_mean")):
        if other not in named:
            raise refusal(name, given, named[given], f"a {other} beside it")
    mean, std = (numbers(name, attribute, named[attribute]) for attribute in ("start_mean", "start_std"))
    if mean.shape != (size,):
        raise refusal(name, "start_mean", named["start_mean"], f"({size},) numbers")
    if std.shape not in ((), (size,)) or (std < 0).any():
        raise refusal(name, "start_std", named["start_std"], f"a number of 0 or more, or ({size},) of them")
    return mean, np.array(np.broadcast_to(std, (size,)))
