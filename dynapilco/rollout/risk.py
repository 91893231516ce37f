"""What to make of many returns of one plan or policy: their mean, or an attitude to risk."""

from __future__ import annotations

from torch import Tensor

OBJECTIVES = {
    "mean": "mean return over particles",
    "cvar": "mean of the worst share (risk_share) of particles",
    "mean_minus_std": "mean minus risk_weight standard deviations over particles",
    "optimistic": "mean plus risk_weight standard deviations over functions (exploration)",
}
BY_MEAN = ("mean", "optimistic")
"""Objectives under which the mean says what a policy is worth in use: optimism is for finding out."""


def risk_value(returns: Tensor, objective: str, share: float, weight: float) -> Tensor:
    """One number for each row of returns (K, S, P) of S functions with P particles, (K,); differentiable.

    Parameters
    ----------
    returns : Tensor
    objective : str
        A word of ``OBJECTIVES``. CVaR: Rockafellar & Uryasev (2000).
    share : float
        Of the particles that cvar looks at.
    weight : float
        Standard deviations, for mean_minus_std and optimistic.
    """
    flat = returns.flatten(1)
    if objective == "cvar":
        worst = max(1, round(share * flat.shape[1]))
        return flat.topk(worst, 1, largest=False).values.mean(1)
    if objective == "mean_minus_std":
        return flat.mean(1) - weight * _spread(flat)
    if objective == "optimistic":
        each = returns.mean(2)
        return each.mean(1) + weight * _spread(each)
    return flat.mean(1)


def _spread(values: Tensor) -> Tensor:
    """Standard deviation over the last axis, with a gradient also where all are equal."""
    return (values.var(1, correction=0) + 1e-12).sqrt()
