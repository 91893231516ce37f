"""``dynapilco log``: tell Weights & Biases or TensorBoard about a finished run, from its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from dynapilco.agent.config_file import read_toml
from dynapilco.cli.options import field_helps, parse
from dynapilco.cli.tracking_options import METAVARS, TrackingOptions
from dynapilco.core.errors import UserError
from dynapilco.tracking.console import make_console
from dynapilco.tracking.recorded import Recorded, read_progress, read_recorded
from dynapilco.tracking.run_dir import CONFIG_FILE
from dynapilco.tracking.sink import Sink
from dynapilco.tracking.summary import read_summary

PROG = "dynapilco log"
DESCRIPTION = """Tell W&B or TensorBoard about a run that is over, from its files: the scalars of progress.csv,
transitions, calibration, figures, the video, and the checkpoint as a model artifact. The files are not changed.

examples:
  dynapilco log runs/NAME --track
  dynapilco log runs/NAME --track --wandb-project swingup --wandb-tags late
  dynapilco log runs/NAME --tensorboard"""


@dataclass(frozen=True)
class LogOptions(TrackingOptions):
    """Which run, and where to."""

    run_dir: Path = Path()
    """A run directory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.track or self.tensorboard):
            raise UserError("nothing to log to: expected --track (Weights & Biases) or --tensorboard")


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = parse_log(words)
    run_dir, console = options.run_dir, make_console()
    if not run_dir.is_dir():
        raise UserError(f"run_dir={str(run_dir)!r} does not exist: expected the folder of a run")
    rows = read_progress(run_dir)
    if not rows:
        raise UserError(f"run_dir={str(run_dir)!r} holds no finished trial: there is nothing to log")
    config = read_toml(run_dir / CONFIG_FILE)
    summary = read_summary(run_dir)
    if summary is None:
        console.print("the run is not over: what it has so far is logged", soft_wrap=True)

    def tell(text: str) -> None:
        console.print(text, soft_wrap=True)

    for sink in _sinks(options, config, tell):
        _tell(sink, config, read_recorded(run_dir, rows), summary)
    tell(f"logged {len(rows)} trials of {run_dir}")
    return 0


def parse_log(words: Sequence[str]) -> LogOptions:
    """Read the command line of ``log``.

    Raises
    ------
    UserError
    """
    parsed = parse(_options_type(), words, PROG, DESCRIPTION)
    return LogOptions(**{f.name: getattr(parsed, f.name) for f in fields(parsed)})


def _options_type() -> Any:
    """For tyro: the same fields, the folder first and without a default, and nothing checked yet."""
    helps, hints = field_helps(LogOptions), get_type_hints(LogOptions)
    where = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR", help=helps["run_dir"])]
    specs: list[Any] = [("run_dir", where)]
    for f in fields(TrackingOptions):
        arg = tyro.conf.arg(help=helps[f.name], metavar=METAVARS.get(f.name))
        specs.append((f.name, Annotated[hints[f.name], arg], field(default=f.default)))
    return make_dataclass("Log", specs, frozen=True)


def _sinks(options: LogOptions, config: dict[str, Any], tell: Callable[[str], None]) -> list[Sink]:
    sinks: list[Sink] = []
    if options.tensorboard:
        from dynapilco.tracking.tensorboard import TENSORBOARD_FOLDER, TensorBoardSink

        folder = options.run_dir / TENSORBOARD_FOLDER
        if any(folder.glob("events.out.*")):
            raise UserError(f"{str(folder)!r} has logs already: expected a run that was not written for TensorBoard")
        sinks.append(TensorBoardSink(options.run_dir))
    if options.track:
        from dynapilco.tracking.wandb_sink import WandbSink

        group = f"{config.get('env_id')}__{config.get('inference')}"
        sinks.append(WandbSink(options.run_dir, options.wandb(group), report=tell, wait=0))
    return sinks


def _tell(sink: Sink, config: dict[str, Any], past: Recorded, summary: dict[str, Any] | None) -> None:
    """Unlike in a run, a failure is an error here: there is nothing else to do."""
    try:
        sink.start(config, len(past.trials))
        past.tell(sink)
        if summary is not None:
            sink.finish(summary)
    except (UserError, OSError):
        raise
    except Exception as error:
        raise UserError(f"{sink.label} failed ({type(error).__name__}: {error})") from error
    finally:
        sink.close()
