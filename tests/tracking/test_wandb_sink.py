import csv
import json
import struct
import time
from pathlib import Path

import pytest

from dynapilco.tracking.files import FileSink
from dynapilco.tracking.wandb_sink import WandbSink, choose_mode

BLOCK, HEADER = 32768, 7


def records(path):
    """Records of an offline file: a LevelDB log, whose records are split over blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    raw = Path(path).read_bytes()
    assert raw[:4] == b":W&B"
    position, pieces = HEADER, []
    while position + HEADER <= len(raw):
        if BLOCK - position % BLOCK < HEADER:  # the rest of a block too short for a header
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, position)
        pieces.append(raw[position + HEADER : position + HEADER + length])
        position += HEADER + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(b"".join(pieces))
            pieces = []


def history(folder, rows, patience=60.0):
    """History of an offline run; wandb's own process may still be writing after ``finish`` when the disk is slow."""
    until = time.monotonic() + patience
    while len(found := _read_history(folder)) < rows and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _read_history(folder):
    (path,) = Path(folder).glob("wandb/offline-run-*/run-*.wandb")
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(path)
        if record.WhichOneof("record_type") == "history"
    ]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("offline")
def test_offline_record_says_the_same_as_progress_csv(tmp_path, make):
    said = []
    sinks = [
        FileSink(tmp_path, history=[make.row(0)]),
        WandbSink("project", "group", "name", tmp_path, history=[make.row(0)], report=said.append),
    ]
    for sink in sinks:
        sink.start(make.config, 3)
        sink.trial(make.trial(1))
        sink.trial(make.trial(2))
        sink.finish({"solved": True, "versions": {}})
        sink.close()
    assert not [text for text in said if "failed" in text]
    logged = history(tmp_path, rows=3)
    with (tmp_path / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(logged) == len(rows) == 3
    for entry, row in zip(logged, rows, strict=True):
        for name, cell in row.items():
            value = entry.get(f"trial/{name}")
            assert value == (json.loads(cell) if cell else None)
        assert entry["env_step"] == int(row["env_steps"])
    assert [("trial/prediction/path" in e or "trial/prediction" in e) for e in logged] == [False, True, True]
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/**/*.png"))
    assert len(said) == 1
    folder = Path(said[0].rpartition("wandb sync ")[2])
    assert list(folder.glob("run-*.wandb"))


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": "x"}, "disabled"),
        ({"WANDB_API_KEY": "x"}, "online"),
        ({"NETRC": "{folder}/netrc"}, "online"),
        ({"NETRC": "{folder}/netrc", "WANDB_BASE_URL": "https://other.example"}, "offline"),
        ({"NETRC": "{folder}/nothing"}, "offline"),
    ],
)
def test_mode(tmp_path, environ, mode):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password not-a-key\n")
    assert choose_mode({k: v.format(folder=tmp_path) for k, v in environ.items()}) == mode


def test_a_failure_is_said_once_and_never_stops_the_run(tmp_path, make, monkeypatch):
    import wandb

    def broken(**_):
        raise wandb.Error("no network\nsecond line")

    monkeypatch.setattr(wandb, "init", broken)
    said = []
    sink = WandbSink("project", "group", "name", tmp_path, report=said.append)
    sink.start(make.config, 2)
    sink.trial(make.trial(1))
    sink.finish({})
    sink.close()
    assert said == ["W&B failed (Error: no network); the run goes on without it"]


def test_a_run_that_breaks_half_way_is_still_closed(tmp_path, make):
    class Run:
        closed = False

        def log(self, values):
            raise OSError("disk full")

        def finish(self):
            self.closed = True

    said = []
    sink = WandbSink("project", "group", "name", tmp_path, report=said.append)
    sink._run = run = Run()
    sink.trial(make.trial(0))
    sink.trial(make.trial(1))
    sink.close()
    assert run.closed
    assert len(said) == 1
