"""``dynapilco log``, and the options about tracking, on the real command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dynapilco.cli.main import main
from tests.tracking.conftest import cell_value

TINY = [
    *("--inference", "ensemble", "--inference-kwargs.members", "2", "--policy-kwargs.hidden", "8"),
    *("--inference-kwargs.cold-steps", "5", "--inference-kwargs.warm-steps", "5", "--rollout.total-particles", "8"),
    *("--search.steps", "4", "--search.screening-steps", "2", "--search.fresh-starts", "1"),
    *("--total-timesteps", "120", "--device", "cpu", "--no-video"),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch, no_key):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def out(capsys):
    """Run the command line: exit code, words on stdout and on stderr."""

    def call(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


def test_a_finished_run_is_logged_like_one_that_was_tracked(out, offline_run):
    code, said, _ = out("train", *TINY, "--out", "run", "--track", "--wandb-project", "live", "--tensorboard")
    assert code == 0
    live = offline_run("run")
    assert f"upload with: wandb sync {live.folder}" in said
    assert list(Path("run/tensorboard").glob("events.out.*"))
    files = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file() and "wandb" not in p.parts}
    code, said, _ = out("log", "run", "--track", "--wandb-tags", "late", "--wandb-name", "again")
    assert code == 0
    later = offline_run("run")
    assert later.folder != live.folder
    assert f"wandb sync {later.folder}" in said
    assert "logged 2 trials of run" in said
    assert {p: p.read_bytes() for p in files} == files
    _check_same_history(live, later)
    _check_progress(later)
    (record,) = later.of_kind("run")[:1]
    assert (record.project, record.display_name, list(record.tags)) == ("dynapilco", "again", ["late"])
    assert record.run_group == "dynapilco/CartPoleSwingUp-v0__ensemble"
    newest = [a for a in later.of_kind("artifact") if a.type == "model"]
    assert [sorted(a.aliases) for a in newest] == [["latest", "trial-1"]]


def _check_same_history(live, later):
    assert len(live.history) == len(later.history) == 2 + 1 + 1
    for one, other in zip(live.history, later.history, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"_timestamp", "_runtime", "_wandb"}:
            if name.startswith("spread/"):  # kept to six digits
                np.testing.assert_allclose(one[name]["bins"], other[name]["bins"], rtol=1e-4)
            elif isinstance(one[name], dict) and "sha256" in one[name]:
                assert one[name]["sha256"] == other[name]["sha256"], name
            else:
                assert one[name] == other[name], name


def _check_progress(run):
    with Path("run/progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for entry, row in zip(run.events("trial/trial"), rows, strict=True):
        assert {n: entry.get(f"trial/{n}") for n in row} == {n: cell_value(n, c) for n, c in row.items()}


def test_a_broken_wandb_costs_a_run_nothing_but_a_sentence(out, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    code, said, _ = out("train", *TINY, "--out", "run", "--track")
    assert code == 0
    assert said.count("W&B failed (UserError: wandb cannot be imported") == 1
    assert "dynapilco log run --track" in said
    assert len(Path("run/progress.csv").read_text().splitlines()) == 3
    events = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    assert any("W&B failed" in event.get("text", "") for event in events)
    code, _, err = out("log", "run", "--track")
    assert (code, err.count("\n")) == (2, 1)
    assert "wandb cannot be imported" in err


def test_a_terminal_that_goes_away_does_not_end_the_run(out, monkeypatch):
    from dynapilco.tracking.console import ConsoleSink

    def gone(self, trial):
        raise BrokenPipeError("Broken pipe")

    monkeypatch.setattr(ConsoleSink, "trial", gone)
    code, _, err = out("train", *TINY, "--out", "run")
    assert code == 0
    assert err.count("the console failed (BrokenPipeError: Broken pipe)") == 1
    assert len(Path("run/progress.csv").read_text().splitlines()) == 3


def test_figures_that_cannot_be_drawn_do_not_end_the_run_but_the_table_must_be_written(out, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device", "x")

    with monkeypatch.context() as patch:
        patch.setattr("dynapilco.tracking.files.png", fails)
        code, said, _ = out("train", *TINY, "--out", "run")
        assert code == 0
        assert said.count("the figures failed (OSError: ") == 1
    monkeypatch.setattr("dynapilco.tracking.files.progress_csv", fails)
    code, _, err = out("train", *TINY, "--out", "other")
    assert code == 2
    assert "No space left on device" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["log", "nothing", "--track"], "run_dir='nothing' does not exist: expected the folder of a run"),
        (["log", ".", "--track"], "holds no progress.csv"),
        (["log", "."], "nothing to log to: expected --track (Weights & Biases) or --tensorboard"),
        (["log"], "RUN_DIR"),
        (["log", ".", "--trak"], "did you mean --track"),
        (["train", "--track", "--wandb-mode", "onlin"], "unknown wandb_mode 'onlin': did you mean online"),
        (["train", "--track", "--wandb-project", ""], "wandb_project='': expected a text"),
        (["train", "--track", "--wandb-project", "a/b"], "wandb_project='a/b': expected a name without /"),
        (["train", "--track", "--wandb-tags", "x" * 65], "expected a text of 1 to 64 characters"),
        (["train", "--wandb-tags", "a", "b"], "wandb_tags=('a', 'b') does nothing: --wandb-tags expects --track"),
        (["train", "--wandb-mode", "offline"], "wandb_mode='offline' does nothing"),
    ],
)
def test_what_cannot_be_meant_is_said_before_any_work(out, words, said):
    code, _, err = out(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert not Path("runs").exists()


def test_a_mode_of_the_environment_that_is_none(out, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    code, _, err = out("train", "--track")
    assert code == 2
    assert "unknown WANDB_MODE 'onlin'" in err


def test_tensorboard_of_a_finished_run_is_written_once(out):
    assert out("train", *TINY, "--out", "run")[0] == 0
    code, _, err = out("log", "run", "--tensorboard")
    assert code == 0, err
    assert list(Path("run/tensorboard").glob("events.out.*"))
    code, _, err = out("log", "run", "--tensorboard")
    assert code == 2
    assert "has logs already" in err


def test_a_run_without_a_finished_trial_has_nothing_to_log(out):
    Path("run").mkdir()
    from dynapilco.tracking.files import progress_csv

    Path("run/progress.csv").write_text(progress_csv([]))
    code, _, err = out("log", "run", "--track")
    assert code == 2
    assert "holds no finished trial" in err
