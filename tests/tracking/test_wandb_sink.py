import csv
import json
import socket

import numpy as np
import pytest

from dynapilco.core.errors import UserError
from dynapilco.core.storage import save_state
from dynapilco.tracking import wandb_sink
from dynapilco.tracking.files import FigureSink, FileSink
from dynapilco.tracking.guard import Guarded
from dynapilco.tracking.recorded import Recorded
from dynapilco.tracking.wandb_options import WandbOptions
from dynapilco.tracking.wandb_sink import WandbSink
from tests.tracking.conftest import cell_value

pytestmark = pytest.mark.usefixtures("no_key")


def checkpoint(folder, row):
    from dataclasses import asdict

    import torch

    save_state(folder / "checkpoint", {"weights": torch.full((3,), float(row.trial))}, {"history": [asdict(row)]})


def tell(sinks, make, folder, trials=(1, 2)):
    for sink in sinks:
        sink.start(make.config, 3)
    for trial in trials:
        told = make.trial(trial, frames=4 * (trial == 2))
        checkpoint(folder, told.row)
        for sink in sinks:
            sink.fitted(trial, {"steps": 40, "potential": -1.5, "diverged": False})
            sink.improved(trial, {"predicted_return": 12.5, "bad_rollouts": 0, "restarts": 0})
            sink.trial(told)
    for sink in sinks:
        sink.finish({"solved": True, "success_rate": 0.95, "versions": {}})
        sink.close()


@pytest.fixture
def told(tmp_path, make, offline_run):
    """A run of three trials, the first of which was finished before: what wandb wrote, and what was said."""
    run_dir, said, past = tmp_path / "run", [], make.trial(0)
    run_dir.mkdir()
    options = WandbOptions(project="project", entity="team", group="group", tags=("a", "b"))
    wandb = WandbSink(run_dir, options, Recorded([past]), said.append)
    tell([FileSink(run_dir, [past.row]), FigureSink(run_dir), wandb], make, run_dir)
    return offline_run(run_dir), run_dir, said


def test_the_offline_record_says_what_was_told(told, make):
    run, run_dir, said = told
    _check_scalars(run, run_dir)
    _check_axes(run)
    _check_table(run, make.rollout())
    _check_uncertainty(run, make.spread())
    _check_media(run, run_dir)
    _check_checkpoints(run, make)
    _check_identity(run, make)
    assert said == [f"W&B writes offline; upload with: wandb sync {run.folder}"]


def _check_scalars(run, run_dir):
    with (run_dir / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    logged = run.events("trial/trial")
    assert len(logged) == len(rows) == 3
    for entry, row in zip(logged, rows, strict=True):
        for name, cell in row.items():
            assert entry.get(f"trial/{name}") == cell_value(name, cell)
        assert (entry["env_step"], entry["trial"]) == (int(row["env_steps"]), int(row["trial"]))


def _check_axes(run):
    axes = {metric.name or metric.glob_name: metric for metric in run.of_kind("metric")}
    assert {"env_step", "trial", "trial/*", "spread/*", "model/*", "policy/*"} <= set(axes)
    assert {axes[name].step_metric for name in ("trial/*", "spread/*")} == {"env_step"}
    assert {axes[name].step_metric for name in ("model/*", "policy/*")} == {"trial"}
    assert [entry["model/potential"] for entry in run.events("model/potential")] == [-1.5, -1.5]
    assert [(e["trial"], e["env_step"]) for e in run.events("policy/predicted_return")] == [(1, 20), (2, 40)]
    assert len(run.history) == 3 + 2 + 2  # one call for each event, none dropped
    steps = [entry["_step"] for entry in run.history]
    assert steps == sorted(set(steps))


def _check_table(run, rollout):
    for entry in run.events("trial/trial"):
        table = json.loads(run.media(entry["trial/transitions"]).read_text())
        assert table["columns"] == [
            "step", "seconds", "x [m]", "x_dot [m/s]", "force [N]", "reward", "next x [m]", "next x_dot [m/s]"
        ]  # fmt: skip
        found = np.array(table["data"])
        np.testing.assert_array_equal(found[:, 2:4].astype(np.float32), rollout.states)
        np.testing.assert_array_equal(found[:, 4:5].astype(np.float32), rollout.actions)
        np.testing.assert_array_equal(found[:, 5].astype(np.float32), rollout.rewards)
        np.testing.assert_array_equal(found[:, 6:].astype(np.float32), rollout.next_states)
        np.testing.assert_allclose(found[:, 1], 0.05 * np.arange(20))


def _check_uncertainty(run, spread):
    first, *rest = run.events("trial/trial")
    assert "trial/pit" not in first and not [name for name in first if name.startswith("spread/")]
    for entry in rest:
        assert entry["trial/pit"]["values"] == list(range(20))
        assert entry["trial/pit"]["bins"] == pytest.approx(np.linspace(0, 1, 21))
        for kind in ("epistemic", "aleatoric"):
            for column, name in enumerate(("x", "x_dot")):
                values = getattr(spread, kind)[:, column]
                histogram = entry[f"spread/{kind}/{name}"]
                assert sum(histogram["values"]) == np.isfinite(values).sum()
                assert histogram["bins"][0] == pytest.approx(np.nanmin(values))
                assert histogram["bins"][-1] == pytest.approx(np.nanmax(values))


def _check_media(run, run_dir):
    logged = run.events("trial/trial")
    assert ["trial/prediction" in entry for entry in logged] == [False, True, True]
    for entry in logged[1:]:
        drawn = run_dir / "figures" / f"trial-{entry['trial']:02d}-prediction.png"
        assert run.media(entry["trial/prediction"]).read_bytes() == drawn.read_bytes()
    assert ["trial/video" in entry for entry in logged] == [False, False, True]
    video = run.media(logged[2]["trial/video"])
    assert video.read_bytes() == (run_dir / "videos" / "trial-02.mp4").read_bytes()


def _check_checkpoints(run, make):
    models = [a for a in run.of_kind("artifact") if a.type == "model"]
    assert [sorted(a.aliases) for a in models] == [["latest", "trial-1"], ["latest", "trial-2"]]
    assert {a.name for a in models} == {"run-checkpoint"}
    for artifact, trial in zip(models, (1, 2), strict=True):
        assert json.loads(artifact.metadata)["return"] == make.row(trial).ret
        assert sorted(e.path.rpartition(".")[2] for e in artifact.manifest.contents) == ["json", "safetensors"]


def _check_identity(run, make):
    (record,) = run.of_kind("run")[:1]
    assert (record.project, record.entity, record.run_group, record.display_name) == ("project", "team", "group", "run")
    assert list(record.tags) == ["a", "b"]
    config = {item.key: json.loads(item.value_json) for item in record.config.update}
    assert {name: config[name] for name in make.config} == make.config
    assert "torch" in config["versions"]
    assert "git_commit" in config
    summary = {}
    for update in run.of_kind("summary"):
        summary |= {item.key: json.loads(item.value_json) for item in update.update}
    assert (summary["solved"], summary["success_rate"]) == (True, 0.95)


def test_without_a_run_directory_of_its_own_the_figure_is_drawn_here(tmp_path, make, offline_run):
    sink = WandbSink(tmp_path)
    sink.start(make.config, 1)
    sink.trial(make.trial(1))
    sink.close()
    (entry,) = offline_run(tmp_path).events("trial/prediction")
    assert offline_run(tmp_path).media(entry["trial/prediction"]).stat().st_size > 10_000


def test_an_outage_at_the_start_is_said_and_the_run_is_written_offline(tmp_path, make, monkeypatch, offline_run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        monkeypatch.setattr(wandb_sink, "PATIENCE", 2.0)
        said = []
        tell([WandbSink(tmp_path, report=said.append)], make, tmp_path)
    assert len(said) == 2
    assert said[0].startswith("W&B cannot be reached (")
    assert said[1].startswith("W&B writes offline; upload with: wandb sync ")
    assert len(offline_run(tmp_path).events("trial/trial")) == 2


def test_a_failure_is_said_once_and_never_stops_the_run(tmp_path, make, monkeypatch):
    import wandb

    def broken(**_):
        raise wandb.Error("no network\nsecond line")

    monkeypatch.setattr(wandb, "init", broken)
    said = []
    tell([Guarded(WandbSink(tmp_path / "a b"), said.append)], make, tmp_path)
    assert said == [
        "W&B failed (Error: no network); the run goes on without it; once it is over, upload it with: "
        f"dynapilco log '{tmp_path}/a b' --track"
    ]


def test_a_run_that_breaks_half_way_is_still_closed(tmp_path, make):
    class Run:
        closed = False

        def log(self, values):
            raise OSError("disk full")

        def finish(self):
            self.closed = True

    said = []
    sink = WandbSink(tmp_path)
    sink._run = run = Run()
    guarded = Guarded(sink, said.append)
    guarded.trial(make.trial(0))
    guarded.trial(make.trial(1))
    guarded.close()
    assert run.closed
    assert len(said) == 1
    assert "disk full" in said[0]


def test_uploads_that_hang_in_the_end_name_the_folder_to_sync(tmp_path):
    class Run:
        dir = str(tmp_path / "wandb" / "run-1" / "files")

        def finish(self):
            raise TimeoutError

    sink = WandbSink(tmp_path)
    sink._run = Run()
    with pytest.raises(TimeoutError, match=r"upload the rest with: wandb sync .*run-1$"):
        sink.close()
    sink.close()


def test_wandb_that_cannot_be_imported_is_said(tmp_path, make, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UserError, match=r"wandb cannot be imported \(ModuleNotFoundError.*pip install wandb"):
        WandbSink(tmp_path).start(make.config, 1)


def test_disabled_writes_nothing(tmp_path, make):
    said = []
    tell([WandbSink(tmp_path / "run", WandbOptions(mode="disabled"), report=said.append)], make, tmp_path)
    assert said == []
    assert not list(tmp_path.glob("run/wandb/*run-*"))


def test_a_second_learn_goes_on_in_the_same_run(tmp_path, make):
    sink = WandbSink(tmp_path)
    sink.start(make.config, 1)
    run = sink._run
    sink.start(make.config, 2)
    assert sink._run is run
    sink.close()
