"""The sink that writes for TensorBoard, through stable-baselines3's logger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dynapilco.core.errors import UserError
from dynapilco.tracking.files import prediction_file
from dynapilco.tracking.recorded import Recorded
from dynapilco.tracking.sink import Sink, Trial

TENSORBOARD_FOLDER = "tensorboard"


class TensorBoardSink(Sink):
    """Writes scalars, histograms and the figure of the prediction of each trial, over environment steps.

    The names are those of Weights & Biases: ``trial/return``, ``model/potential``, ``spread/epistemic/x``, ...

    Parameters
    ----------
    run_dir : Path
        Gets a folder ``tensorboard``; its figures are taken as they are.
    past : Recorded, optional
        Trials that were finished before; written first, unless the folder has them already.
    """

    label = "TensorBoard"

    def __init__(self, run_dir: Path, past: Recorded | None = None) -> None:
        self.run_dir, self.past = run_dir, past or Recorded()
        self._logger: Any = None
        self._steps = 0

    def start(self, config: dict[str, Any], trials: int) -> None:
        """Open the folder, and write the trials that were finished before."""
        if self._logger is not None:  # SB3's learn() may be called again
            return
        from stable_baselines3.common.logger import Logger

        folder = self.run_dir / TENSORBOARD_FOLDER
        known = any(folder.glob("events.out.*"))
        self._logger = Logger(str(folder), [_output(folder)])
        if not known:
            self.past.tell(self)
        self._steps = self.past.env_steps

    def fitted(self, trial: int, metrics: dict[str, float]) -> None:
        """Write the model fit."""
        self._write({f"model/{name}": value for name, value in metrics.items()})

    def improved(self, trial: int, metrics: dict[str, float]) -> None:
        """Write the policy."""
        self._write({f"policy/{name}": value for name, value in metrics.items()})

    def trial(self, trial: Trial) -> None:
        """Write the trial."""
        self._steps = trial.row.env_steps
        self._write(_values(trial, self.run_dir))

    def _write(self, values: dict[str, Any]) -> None:
        if self._logger is None:
            return
        for name, value in values.items():
            self._logger.record(name, value)
        self._logger.dump(self._steps)

    def close(self) -> None:
        """Close the file."""
        logger, self._logger = self._logger, None
        if logger is not None:
            logger.close()


def _output(folder: Path) -> Any:
    from stable_baselines3.common.logger import TensorBoardOutputFormat

    try:
        return TensorBoardOutputFormat(str(folder))
    except AssertionError as error:  # SB3's way to say that it is not installed
        raise UserError("TensorBoard is not installed: pip install tensorboard") from error


def _values(trial: Trial, run_dir: Path) -> dict[str, Any]:
    import torch
    from stable_baselines3.common.logger import Image

    values: dict[str, Any] = {f"trial/{name}": value for name, value in trial.row.numbers().items()}
    if trial.pit is not None:  # SB3 takes a tensor for a histogram
        values["trial/pit"] = torch.as_tensor(trial.pit.values[np.isfinite(trial.pit.values)])
    if trial.spread is not None:
        for kind in ("epistemic", "aleatoric"):
            columns = getattr(trial.spread, kind).T
            for name, column in zip(trial.spread.names, columns, strict=True):
                finite = column[np.isfinite(column)]
                if len(finite):
                    values[f"spread/{kind}/{name}"] = torch.as_tensor(finite)
    file = prediction_file(run_dir, trial.row.trial)
    if file.is_file():
        values["trial/prediction"] = Image(_pixels(file), "HWC")
    return values


def _pixels(file: Path) -> np.ndarray:
    import imageio.v3 as iio

    return np.asarray(iio.imread(file))[..., :3]
