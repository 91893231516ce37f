"""A sink that fails is reported once, and the run goes on without it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from dynapilco.tracking.sink import Sink, Trial


def warn(text: str) -> None:
    """Report as a Python warning, where there is nothing better."""
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def guard(sinks: Iterable[Sink], report: Callable[[str], None] = warn) -> list[Sink]:
    """The same sinks, those that a run can do without wrapped in :class:`Guarded`.

    Parameters
    ----------
    sinks : iterable of Sink
    report : callable, optional
        Hears of a failure in one sentence; must not raise. A Python warning by default.
    """
    return [sink if sink.required or isinstance(sink, Guarded) else Guarded(sink, report) for sink in sinks]


class Guarded(Sink):
    """Passes everything on to a sink until that fails; then it reports once, and is quiet.

    Whatever is no ``Exception``, as Ctrl-C, passes through.

    Parameters
    ----------
    sink : Sink
    report : callable
        Hears of the failure in one sentence.

    Attributes
    ----------
    failed : bool
    """

    def __init__(self, sink: Sink, report: Callable[[str], None] = warn) -> None:
        self.sink, self.report, self.failed = sink, report, False

    def start(self, config: dict[str, Any], trials: int) -> None:
        """Pass on."""
        self._pass("start", config, trials)

    def progress(self, trial: int, phase: str, done: int, total: int, metrics: dict[str, float]) -> None:
        """Pass on."""
        self._pass("progress", trial, phase, done, total, metrics)

    def fitted(self, trial: int, metrics: dict[str, float]) -> None:
        """Pass on."""
        self._pass("fitted", trial, metrics)

    def improved(self, trial: int, metrics: dict[str, float]) -> None:
        """Pass on."""
        self._pass("improved", trial, metrics)

    def trial(self, trial: Trial) -> None:
        """Pass on."""
        self._pass("trial", trial)

    def message(self, text: str) -> None:
        """Pass on."""
        self._pass("message", text)

    def finish(self, summary: dict[str, Any]) -> None:
        """Pass on."""
        self._pass("finish", summary)

    def close(self) -> None:
        """Pass on, also after a failure: what is held must be released."""
        self._try("close")

    def _pass(self, method: str, *args: Any) -> None:
        if not self.failed:
            self._try(method, *args)

    def _try(self, method: str, *args: Any) -> None:
        try:
            getattr(self.sink, method)(*args)
        except Exception as error:
            if not self.failed:
                self.failed = True
                self.report(describe_failure(self.sink, error))


def describe_failure(sink: Sink, error: Exception) -> str:
    """One sentence: which sink, what happened, what now."""
    lines = str(error).strip().splitlines()
    cause = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{sink.label or type(sink).__name__} failed ({cause}); the run goes on without it{sink.remedy}"
