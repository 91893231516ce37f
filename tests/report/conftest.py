import numpy as np
import pytest

from dynapilco.tracking.fans import write_beliefs
from dynapilco.tracking.files import progress_csv
from dynapilco.tracking.run_dir import append_command, write_config
from dynapilco.tracking.sink import Fan, Pit, Trial, TrialRow
from dynapilco.tracking.summary import build_summary, write_summary
from dynapilco.tracking.video import write_video

CONFIG = {"env_id": "dynapilco/CartPoleSwingUp-v0", "inference": "ensemble", "seed": 3, "search": {"steps": 20}}


def make_row(trial, **changes):
    model = None if trial == 0 else 1.5
    values = {
        "trial": trial, "env_steps": 20 * (trial + 1), "env_seconds": 1.0 * (trial + 1), "ret": 3.0 + 2 * trial,
        "predicted_return": model and 2.5 + 2 * trial, "success": trial >= 2, "model_nll": model and -float(trial),
        "coverage_95_one_step": model and 0.97, "coverage_95_horizon": model and 0.9, "nan_rollouts": model and 0,
        "seconds_model": model, "seconds_policy": model and 4.0, "seconds_env": 0.25,
    }  # fmt: skip
    return TrialRow(**{**values, **changes})


def make_fan(trial, names=("x", "theta_dot")):
    rng = np.random.default_rng(trial)
    shape = (30, 21, len(names))
    return Fan(
        np.arange(21) * 0.05, np.cumsum(rng.standard_normal(shape), axis=1) / (trial + 1),
        np.zeros((21, len(names))) + trial, names, ("m", "rad/s")[: len(names)],
        rng.standard_normal((20, 1)), ("force",), ("N",),
    )  # fmt: skip


def make_run(folder, trials=4, finished=True, config=CONFIG, video=True, beliefs=True):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [make_row(trial) for trial in range(trials)]
    (folder / "progress.csv").write_text(progress_csv(rows))
    write_config(folder, config)
    append_command(folder, ["dynapilco", "train", "--seed", str(config["seed"])])
    for row in rows[1:] if beliefs else []:
        pit = Pit(np.random.default_rng(row.trial).random((20, 2)), ("x", "theta_dot"))
        write_beliefs(folder, Trial(row, make_fan(row.trial), [], pit))
    if finished:
        outcome = [True] * 19 + [False]
        write_summary(
            folder,
            build_summary(
                config, rows, [9.0] * 20, outcome, delivered_trial=trials - 1, wall_seconds=17.0, engine="fused"
            ),
        )
    if finished and video:
        frames = [np.full((32, 48, 3), 60 * k, np.uint8) for k in range(4)]
        write_video(folder / "videos" / f"trial-{trials - 1:02d}.mp4", frames, 0.1)
    return folder


@pytest.fixture
def make():
    """Builders of rows, fans and whole run directories."""

    class Make:
        row, fan, run, config = staticmethod(make_row), staticmethod(make_fan), staticmethod(make_run), CONFIG

    return Make


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run the command line: ``code, out, err = cli("report", "x")``."""
    from dynapilco.cli.main import main

    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call
