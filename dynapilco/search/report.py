"""What a search found."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SearchReport:
    """What a search found.

    Attributes
    ----------
    params : Tensor
        The best candidate, (n,).
    predicted_return : float
        Its mean imagined return over a whole rollout, by fresh draws, in the units of the task's reward.
    winner : str
        Where the winner came from: ``"warm"``, ``"fresh"``, or ``"unchanged"`` (a warm start as it was).
    returns : list of float
        Predicted returns of the finalists.
    bad_rollouts : int
        Batches of a candidate's particles that had non-finite numbers (in the rollout or its gradient).
    restarts : int
        Candidates that were re-initialised because of them.
    lost : int
        Candidates that were re-initialised because they had gone where neither reward nor gradient is left.
    """

    params: Tensor
    predicted_return: float
    winner: str
    returns: list[float]
    bad_rollouts: int
    restarts: int
    lost: int
