"""The sink that sends a run to Weights & Biases. It never stops a run."""

from __future__ import annotations

import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlparse

from dynapilco.tracking.figures import particle_fan, png
from dynapilco.tracking.files import fan_title
from dynapilco.tracking.sink import Sink, Trial, TrialRow

P = ParamSpec("P")
S = TypeVar("S", bound="WandbSink")


def choose_mode(environ: Mapping[str, str]) -> str:
    """``WANDB_MODE`` where it is set, else online where a key is at hand, else offline.

    Without a key and a terminal wandb would refuse to start, so the choice is made here.
    """
    if environ.get("WANDB_MODE"):
        return environ["WANDB_MODE"]
    if environ.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return "online" if host in netrc.netrc(path).hosts else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


def _never_stops(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Turn any failure into one message, after which the sink is quiet."""

    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.quiet:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._give_up(error)

    guarded.__doc__ = method.__doc__
    return guarded


class WandbSink(Sink):
    """Logs each trial once: the columns of ``progress.csv`` as ``trial/...`` over ``env_step``, and the fan.

    Parameters
    ----------
    project, group : str
        Where the run is filed.
    name : str
        Name of the run.
    folder : Path
        Holds wandb's own files (in ``folder/wandb``).
    history : sequence of TrialRow
        Trials that a resumed run finished before; they are logged first.
    report : callable, optional
        Hears what a person should know, in one sentence.
    """

    def __init__(
        self,
        project: str,
        group: str,
        name: str,
        folder: Path,
        history: Sequence[TrialRow] = (),
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.project, self.group, self.name, self.folder = project, group, name, folder
        self.history = list(history)
        self.report = report
        self.quiet = False
        self._run: Any = None

    @_never_stops
    def start(self, config: dict[str, Any], trials: int) -> None:
        """Open the run."""
        import wandb  # half a second, and only with --track

        mode: Any = choose_mode(os.environ)
        self._run = wandb.init(
            project=self.project,
            group=self.group,
            name=self.name,
            dir=self.folder,
            config=config,
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )
        self._run.define_metric("env_step")
        self._run.define_metric("trial/*", step_metric="env_step")
        for row in self.history:
            self._run.log(_scalars(row))
        self._say_where(mode)

    def _say_where(self, mode: str) -> None:
        if mode == "online":
            self.report(f"W&B: {self._run.url}")
        elif mode == "offline":
            folder = Path(self._run.dir).parent  # .../wandb/offline-run-<time>-<id>/files
            self.report(f"W&B writes offline; upload with: wandb sync {folder}")

    @_never_stops
    def trial(self, trial: Trial) -> None:
        """Log the trial, everything in one call so that the charts keep it."""
        if self._run is None:
            return
        values = _scalars(trial.row)
        if trial.fan is not None:
            import PIL.Image
            import wandb

            picture = png(particle_fan(trial.fan, fan_title(trial.row)), dpi=100)
            values["trial/prediction"] = wandb.Image(PIL.Image.open(BytesIO(picture)))
        self._run.log(values)

    @_never_stops
    def finish(self, summary: dict[str, Any]) -> None:
        """Put the outcome into the run's summary."""
        if self._run is not None:
            self._run.summary.update({k: v for k, v in summary.items() if v is not None and k != "versions"})

    def close(self) -> None:
        """Close the run, also after a failure: wandb's own process waits for it."""
        run, self._run = self._run, None
        if run is None:
            return
        try:
            run.finish()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self.quiet:
            self.quiet = True
            first = (str(error).strip().splitlines() or [""])[0]
            self.report(f"W&B failed ({type(error).__name__}: {first}); the run goes on without it")


def _scalars(row: TrialRow) -> dict[str, Any]:
    """The row's columns that have a value. No step: wandb drops what has a smaller one than before."""
    values = {f"trial/{name}": value for name, value in row.cells().items() if value is not None}
    return {"env_step": row.env_steps, **values}
