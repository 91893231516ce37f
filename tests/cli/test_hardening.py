"""What an adversarial reader found: each of these once broke a promise."""

import csv
import json
from pathlib import Path

import pytest

from dynapilco import DynaPILCO
from dynapilco.cli.main import main
from dynapilco.tracking.files import FileSink
from dynapilco.tracking.sink import TIME_COLUMNS

TINY = [
    *("--inference-kwargs.members", "2", "--inference-kwargs.cold-steps", "5", "--inference-kwargs.warm-steps", "5"),
    *("--search.steps", "4", "--search.screening-steps", "2", "--search.fresh-starts", "1"),
    *("--rollout.total-particles", "8", "--total-timesteps", "120", "--no-video", "--device", "cpu"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def one_line(capsys, *words):
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    assert said.startswith("dynapilco: error:")
    return said


def test_a_run_that_died_after_its_last_checkpoint_gets_its_last_row(monkeypatch):
    assert main(["train", *TINY, "--out", "whole"]) == 0
    calls = []

    def dies(self, trial):
        calls.append(trial.row.trial)
        if trial.row.trial == 1:
            raise KeyboardInterrupt
        self.rows.append(trial.row)

    with monkeypatch.context() as patch:
        patch.setattr(FileSink, "trial", dies)
        assert main(["train", *TINY, "--out", "cut"]) == 130
    assert calls == [0, 1]
    assert main(["train", "--resume", "cut"]) == 0
    rows = [list(csv.DictReader(Path(run, "progress.csv").read_text().splitlines())) for run in ("whole", "cut")]
    assert len(rows[0]) == len(rows[1]) == 2
    untimed = [[{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in run] for run in rows]
    assert untimed[0] == untimed[1]
    assert Path("cut/figures/learning_curve.png").stat().st_size > 0


def test_the_interruption_names_the_trial_that_is_on_disk(monkeypatch, capsys):
    save = DynaPILCO.save

    def interrupted(self, path, *rest):
        if len(self.history) == 2:
            raise KeyboardInterrupt
        save(self, path, *rest)

    monkeypatch.setattr(DynaPILCO, "save", interrupted)
    assert main(["train", *TINY, "--out", "run"]) == 130
    assert "the checkpoint of trial 0 is in" in capsys.readouterr().err
    assert len(json.loads(Path("run/checkpoint/state.json").read_text())["history"]) == 1


def test_a_dangling_runs_folder_is_an_error_and_not_a_loop(capsys):
    Path("runs").symlink_to("nowhere")
    assert "runs" in one_line(capsys, *TINY)


@pytest.mark.parametrize("out", ["file/x", "/proc/nothing/y"])
def test_a_place_that_cannot_be_written_to(capsys, out):
    Path("file").write_text("mine")
    one_line(capsys, *TINY, "--out", out)
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize(
    "words", [["--search.learning-rate", "inf"], ["--device", "meta"], ["--inference-kwargs.learning-rate", "nan"]]
)
def test_values_that_only_look_like_numbers(capsys, words):
    one_line(capsys, *TINY, *words, "--out", "run")
    assert not Path("run").exists()


@pytest.mark.parametrize("option", ["--config", "--resume", "--env-id"])
def test_an_option_without_its_value(capsys, option):
    assert "expected a value" in one_line(capsys, option)


def test_the_engine_is_named_and_its_absence_told(monkeypatch, capsys):
    monkeypatch.setenv("DYNAPILCO_ENGINE", "torch")
    assert main(["train", *TINY, "--out", "run"]) == 0
    assert "plain PyTorch" in capsys.readouterr().out
    assert json.loads(Path("run/summary.json").read_text())["engine"] == "torch"
    assert json.loads(Path("run/checkpoint/state.json").read_text())["engine"] == "torch"
    monkeypatch.setenv("DYNAPILCO_ENGINE", "bogus")
    assert "DYNAPILCO_ENGINE" in one_line(capsys, *TINY, "--out", "other")
    assert not Path("other").exists()
