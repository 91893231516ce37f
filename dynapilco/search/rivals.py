"""The best policies of a search by evolution, each to be beaten under the same draws as its challenger."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.rollout.risk import risk_value
from dynapilco.search.evolution_config import EvolutionConfig
from dynapilco.search.imagination import only_finite

CLEARLY = 2.0
"""Standard errors by which a centre must be better than the best one: what the draws explain is no progress."""


@dataclass(frozen=True)
class Tried:
    """What imagined policies came to: returns (R, S, P), values (R,), and the share that still goes on (R,)."""

    returns: Tensor
    values: Tensor
    alive: Tensor


class Rivals:
    """The best so far, each to be beaten under the same draws as its challenger.

    Parameters
    ----------
    centre : Tensor
        The first one, (n,).

    Attributes
    ----------
    centre, best, leader : Tensor
        The best centre; the best single policy; the leader of the last generation, which challenges that one.
    """

    def __init__(self, centre: Tensor) -> None:
        self.centre = self.best = self.leader = centre

    def rows(self) -> Tensor:
        """(3, n), to be tried after all others."""
        return torch.stack([self.centre, self.best, self.leader])

    def judge(self, tried: Tried, centre: Tensor, config: EvolutionConfig) -> bool:
        """Keep the better ones; whether the present centre, the first row, is clearly better than the best one."""
        _, best, leader = tried.values[-3:].tolist()
        if leader > best:
            self.best = self.leader
        better = is_clearly_better(tried.returns[0], tried.returns[-3], config)
        if better:
            self.centre = centre.clone()
        return better


def is_clearly_better(one: Tensor, other: Tensor, config: EvolutionConfig) -> bool:
    """Whether returns (S, P) are worth more than others under the same draws, by two standard errors.

    The standard error of the difference is the jackknife's, leaving out one function (or, of one function, one
    particle) at a time, which suits every objective (Efron & Stein 1981).
    """
    pair = torch.stack([one, other])
    pair = pair if pair.shape[1] > 1 else pair.transpose(1, 2)

    def worth(returns: Tensor) -> Tensor:
        return risk_value(returns, config.objective, config.risk_share, config.risk_weight)

    mine, theirs = only_finite(worth(pair)).tolist()
    if not mine > theirs or theirs == -torch.inf:
        return mine > theirs
    count = pair.shape[1]
    if count == 1:
        return True
    others = torch.stack([torch.cat([pair[:, :s], pair[:, s + 1 :]], 1) for s in range(count)])  # (count, 2, ...)
    left = worth(others.flatten(0, 1)).reshape(count, 2)
    error = ((left[:, 0] - left[:, 1]).var(correction=0) * (count - 1)).sqrt()
    return mine - theirs > CLEARLY * float(error)
