"""The sink that sends a run to Weights & Biases."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynapilco.core.errors import UserError
from dynapilco.tracking.git import git_commit
from dynapilco.tracking.recorded import Recorded
from dynapilco.tracking.run_dir import CHECKPOINT_FOLDER
from dynapilco.tracking.sink import Sink, Trial
from dynapilco.tracking.summary import versions
from dynapilco.tracking.wandb_options import LONGEST_NAME, WandbOptions
from dynapilco.tracking.wandb_values import checkpoint_artifact, trial_values

PATIENCE = 30.0
"""Seconds that a run waits for W&B to answer when it begins."""
LAST_PATIENCE = 120.0
"""Seconds that a run waits for the rest of its uploads when it is over; what is left can be synced later."""


class WandbSink(Sink):
    """Logs every event once: model fits and policies over ``trial``, trials over ``env_step``.

    A trial is its row, a table of its transitions, the figure of its prediction, histograms of calibration and of
    epistemic and aleatoric spread, its video, and the checkpoint as a model artifact.

    Parameters
    ----------
    run_dir : Path
        Figures, videos and the checkpoint are taken from there; wandb's own files go to ``run_dir/wandb``.
    options : WandbOptions
    past : Recorded, optional
        Trials that were finished before; they are logged first.
    report : callable, optional
        Hears in one sentence where the run is.
    wait : float
        Seconds to wait for the last uploads; 0 waits for as long as they take.
    """

    label = "W&B"

    def __init__(
        self,
        run_dir: Path,
        options: WandbOptions | None = None,
        past: Recorded | None = None,
        report: Callable[[str], None] = lambda text: None,
        wait: float = LAST_PATIENCE,
    ) -> None:
        self.run_dir, self.options, self.wait = run_dir, options or WandbOptions(), wait
        self.name = self.options.name or run_dir.resolve().name[:LONGEST_NAME]
        self.past, self.report = past or Recorded(), report
        self.remedy = f"; once it is over, upload it with: dynapilco log {shlex.quote(str(run_dir))} --track"
        self._run: Any = None
        self._steps = 0

    def start(self, config: dict[str, Any], trials: int) -> None:
        """Open the run, and log the trials that were finished before."""
        if self._run is not None:  # SB3's learn() may be called again
            return
        mode = self.options.mode_in(os.environ)
        self._run = self._open(config | {"versions": versions(), "git_commit": git_commit()}, mode)
        for axis in ("env_step", "trial"):
            self._run.define_metric(axis)
        for group, axis in (("trial", "env_step"), ("spread", "env_step"), ("model", "trial"), ("policy", "trial")):
            self._run.define_metric(f"{group}/*", step_metric=axis)
        self.past.tell(self)

    def _open(self, config: dict[str, Any], mode: str) -> Any:
        """The run; written offline where W&B cannot be reached or knows no key."""
        wandb = import_wandb()
        try:
            run = self._init(wandb, config, mode)
        except Exception as error:
            if mode != "online":
                raise
            cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.report(f"W&B cannot be reached ({cause})")
            mode = "offline"
            run = self._init(wandb, config, mode)
        if mode == "online":
            self.report(f"W&B: {run.url}")
        elif mode == "offline":
            self.report(f"W&B writes offline; upload with: wandb sync {sync_folder(run)}")
        return run

    def _init(self, wandb: Any, config: dict[str, Any], mode: str) -> Any:
        options = self.options
        return wandb.init(
            project=options.project_in(os.environ),
            entity=options.entity,
            group=options.group,
            tags=list(options.tags),
            name=self.name,
            dir=self.run_dir,
            config=config,
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=PATIENCE, **self._limits(wandb)),
        )

    def _limits(self, wandb: Any) -> dict[str, Any]:
        """An upload that hangs in the end must not hold the run for ever; older versions know no limit."""
        if not self.wait or "finish_timeout" not in wandb.Settings.model_fields:
            return {}
        return {"finish_timeout": self.wait, "finish_timeout_raises": True}

    def fitted(self, trial: int, metrics: dict[str, float]) -> None:
        """Log the model fit."""
        self._log("model", trial, metrics)

    def improved(self, trial: int, metrics: dict[str, float]) -> None:
        """Log the policy."""
        self._log("policy", trial, metrics)

    def _log(self, group: str, trial: int, metrics: dict[str, float]) -> None:
        if self._run is not None:
            values = {f"{group}/{name}": value for name, value in metrics.items()}
            self._run.log({"env_step": self._steps, "trial": trial, **values})

    def trial(self, trial: Trial) -> None:
        """Log the trial, everything in one call so that the charts keep it, and the checkpoint after it."""
        if self._run is None:
            return
        self._run.log(trial_values(trial, self.run_dir))
        self._steps = trial.row.env_steps
        found = checkpoint_artifact(self.run_dir / CHECKPOINT_FOLDER, trial.row.trial, self.name)
        if found is not None:
            artifact, aliases = found
            self._run.log_artifact(artifact, aliases=aliases)

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
        except TimeoutError as error:
            raise TimeoutError(
                f"not all was uploaded within {self.wait:g} s; upload the rest with: wandb sync {sync_folder(run)}"
            ) from error


def import_wandb() -> Any:
    """Import wandb: half a second, and only where it is used.

    Raises
    ------
    UserError
        When it is not there, or broken.
    """
    try:
        import wandb

        _ = wandb.init, wandb.Settings
    except Exception as error:  # a broken installation raises anything
        raise UserError(
            f"wandb cannot be imported ({type(error).__name__}: {error}): install it with pip install wandb, "
            "or leave --track out"
        ) from error
    return wandb


def sync_folder(run: Any) -> Path:
    """What ``wandb sync`` takes: ``.../wandb/offline-run-<time>-<id>``."""
    return Path(run.dir).parent
