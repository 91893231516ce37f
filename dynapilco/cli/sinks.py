"""The sinks of a run that the command line starts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dynapilco.cli.tracking_options import TrackingOptions
from dynapilco.tracking.console import ConsoleSink, make_console
from dynapilco.tracking.guard import Guarded, guard
from dynapilco.tracking.sink import Sink, TrialRow


def make_sinks(run_dir: Path, options: TrackingOptions, group: str, history: Sequence[TrialRow]) -> list[Sink]:
    """Console, files, and what was asked for beside them; all but ``progress.csv`` may fail without harm.

    Parameters
    ----------
    run_dir : Path
    options : TrackingOptions
    group : str
        Of runs on W&B, where none was asked for.
    history : sequence of TrialRow
        Trials that a resumed run finished before.
    """
    from dynapilco.tracking.events import EventSink
    from dynapilco.tracking.files import FigureSink, FileSink  # imports matplotlib

    console = Guarded(ConsoleSink(history, make_console()), to_stderr)

    def show(text: str) -> None:
        to_stderr(text) if console.failed else console.message(text)

    events = Guarded(EventSink(run_dir), show)

    def tell(text: str) -> None:
        show(text)
        events.message(text)

    sinks = [console, FileSink(run_dir, history), events, Guarded(FigureSink(run_dir, history, tell), tell)]
    if options.track or options.tensorboard:
        sinks += _tracking_sinks(run_dir, options, group, history, tell)
    return sinks


def _tracking_sinks(
    run_dir: Path,
    options: TrackingOptions,
    group: str,
    history: Sequence[TrialRow],
    tell: Callable[[str], None],
) -> list[Sink]:
    from dynapilco.tracking.recorded import read_recorded

    past, sinks = read_recorded(run_dir, history), []
    if options.tensorboard:
        from dynapilco.tracking.tensorboard import TensorBoardSink

        sinks.append(TensorBoardSink(run_dir, past))
    if options.track:
        from dynapilco.tracking.wandb_sink import WandbSink

        sinks.append(WandbSink(run_dir, options.wandb(group), past, tell))
    return guard(sinks, tell)


def close_sinks(sinks: Sequence[Sink]) -> None:
    """Close all."""
    for sink in sinks:
        sink.close()


def to_stderr(text: str) -> None:
    """The last resort; where that is closed too, nobody can be told."""
    with contextlib.suppress(OSError, ValueError):
        print(f"dynapilco: {text}", file=sys.stderr)
