"""What the loop asks of whatever acts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dynapilco.agent.context import Context
from dynapilco.agent.episode import Controller
from dynapilco.tracking.sink import TrialRow


@dataclass(frozen=True)
class Prediction:
    """What the model expects of a trial.

    Attributes
    ----------
    particles : Tensor
        Particle states, (K, T+1, D).
    by_function : Tensor or None
        Particle states with at least two particles of each function, (T+1, S, P, D); None where particles do not keep
        their functions.
    """

    particles: Tensor
    by_function: Tensor | None


@dataclass(frozen=True)
class Ready:
    """A controller for the coming trial.

    Attributes
    ----------
    controller : callable
        ``controller(observation, step)`` -> action vector.
    params : Tensor or None
        Parameters (n,) of the policy, where there is one to keep.
    prediction : Prediction or None
        None where nothing predicts the trial.
    predicted_return : float or None
    bad : callable
        Imagined trajectories so far that were not finite.
    lost : int or None
        Candidates of the search that had gone where neither reward nor gradient is left, and were started afresh; None
        where there are none to lose.
    value_error : float or None
        Of the terminal value that was learned, as a share of the spread of what it was fitted to.
    thinks : bool
        Whether the time of acting is spent on finding actions.
    """

    controller: Controller
    params: Tensor | None = None
    prediction: Prediction | None = None
    predicted_return: float | None = None
    bad: Callable[[], int] = lambda: 0
    lost: int | None = None
    value_error: float | None = None
    thinks: bool = False


class Control(ABC):
    """Turns the newest model into actions.

    Parameters
    ----------
    context : Context
        Its ``state`` is where everything that must last beyond a trial is kept.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def prepare(self) -> Ready:
        """Make ready for a trial, after the model was fitted."""

    @abstractmethod
    def keep(self, ready: Ready, row: TrialRow) -> None:
        """A trial is over, and its data and row are in the state: keep what made it."""

    @abstractmethod
    def acting(self, purpose: str) -> Controller:
        """What acts from now on, also before the first model."""

    @abstractmethod
    def vectors(self) -> Callable[[Tensor], Tensor]:
        """The same as a function of states (B, D) that gives action vectors (B, M)."""
