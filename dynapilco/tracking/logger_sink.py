"""stable-baselines3's logger as a sink, so that a full disk of its files does not end a run."""

from __future__ import annotations

from collections.abc import Callable

from dynapilco.tracking.sink import Sink, Trial, TrialRow


class LoggerSink(Sink):
    """Hands each trial's row to a function that records and dumps it.

    Parameters
    ----------
    dump : callable
    """

    label = "the logger"

    def __init__(self, dump: Callable[[TrialRow], None]) -> None:
        self._dump = dump

    def trial(self, trial: Trial) -> None:
        """Dump the row."""
        self._dump(trial.row)
