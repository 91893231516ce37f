import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from dynapilco.tracking.details import Rollout, Spread
from dynapilco.tracking.sink import Fan, Pit, Trial, TrialRow

BLOCK, HEADER = 32768, 7


def make_row(trial, **changes):
    explored = trial == 0
    values = {
        "trial": trial,
        "env_steps": 20 * (trial + 1),
        "env_seconds": 0.05 * 20 * (trial + 1),
        "ret": 0.1 + trial / 3,
        "predicted_return": None if explored else 1e-17 + trial / 7,
        "success": trial >= 2,
        "model_nll": None if explored else -1.2345678901234567,
        "coverage_95_one_step": None if explored else 0.95,
        "coverage_95_horizon": None if explored else 2 / 3,
        "nan_rollouts": None if explored else trial,
        "seconds_model": None if explored else 1.5,
        "seconds_policy": None if explored else 2.5,
        "seconds_env": 0.25,
        "ended_by": "time limit",
        "disagreements": 0,
    }
    return TrialRow(**{**values, **changes})


def make_fan(states=4, actions=1, steps=20, particles=30, dt=0.05):
    rng = np.random.default_rng(0)
    names = ("x", "x_dot", "theta", "theta_dot", "theta1", "theta1_dot")[:states]
    return Fan(
        seconds=np.arange(steps + 1) * dt,
        predicted=np.cumsum(rng.standard_normal((particles, steps + 1, states)), axis=1),
        observed=np.cumsum(rng.standard_normal((steps + 1, states)), axis=0),
        names=names,
        units=("m", "m/s", "rad", "rad/s", "rad", "rad/s")[:states],
        actions=rng.standard_normal((steps, actions)),
        action_names=tuple(f"force{i}" for i in range(actions)),
        action_units=("N",) * actions,
    )


def make_rollout(steps=20):
    rng = np.random.default_rng(1)
    states = rng.standard_normal((steps + 1, 2)).astype(np.float32)
    actions, rewards = rng.standard_normal((steps, 1)).astype(np.float32), rng.random(steps).astype(np.float32)
    return Rollout(
        states[:-1], states[1:], actions, rewards, 0.05, ("x", "x_dot"), ("m", "m/s"), ("force",), ("N",)
    )  # fmt: skip


def make_pit():
    """Counts 0, 1, ..., 19 in the 20 bins of both outputs together."""
    values = np.repeat((np.arange(20) + 0.3) / 20, np.arange(20)).reshape(-1, 2)
    return Pit(values, ("x", "x_dot"))


def make_spread(steps=20):
    rng = np.random.default_rng(2)
    epistemic, aleatoric = rng.random((2, steps + 1, 2)) + 0.1
    epistemic[3, 0] = np.nan  # all particles lost
    return Spread(epistemic, aleatoric, ("x", "x_dot"), ("m", "m/s"))


def make_trial(trial, frames=0, **changes):
    row = make_row(trial, **changes)
    pictures = [np.full((32, 48, 3), 10 * i % 255, np.uint8) for i in range(frames)]
    if trial == 0:
        return Trial(row, None, pictures, rollout=make_rollout())
    return Trial(row, make_fan(), pictures, make_pit(), make_rollout(), make_spread())


CONFIG = {"env_id": "dynapilco/CartPoleSwingUp-v0", "inference": "ensemble", "seed": 0}


@pytest.fixture
def make():
    """Row, fan and trial builders, and a configuration."""

    class Make:
        row, fan, trial = staticmethod(make_row), staticmethod(make_fan), staticmethod(make_trial)
        rollout, spread, config = staticmethod(make_rollout), staticmethod(make_spread), CONFIG

    return Make


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


class OfflineRun:
    """What wandb wrote offline under ``folder/wandb``, the newest run."""

    def __init__(self, folder, patience=60.0):
        self.folder = max(Path(folder).glob("wandb/offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
        (path,) = self.folder.glob("run-*.wandb")
        until = time.monotonic() + patience  # wandb's own process may still be writing when the disk is slow
        while not self._read(path) and time.monotonic() < until:
            time.sleep(0.1)

    def _read(self, path):
        self.records = list(records(path))
        return any(record.WhichOneof("record_type") == "exit" for record in self.records)

    def of_kind(self, kind):
        return [getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind]

    @property
    def history(self):
        """Each call of ``log``: key -> value; values of media are nested under one key."""
        return [_nested(item for item in record.item) for record in self.of_kind("history")]

    def events(self, key):
        """The calls of ``log`` that hold ``key``."""
        return [entry for entry in self.history if key in entry]

    def media(self, value):
        return self.folder / "files" / value["path"]


def _nested(items):
    found = {}
    for item in items:
        *parents, last = item.nested_key or [item.key]
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = json.loads(item.value_json)
    return found


@pytest.fixture
def offline_run():
    """Read back an offline run: ``offline_run(folder)``."""
    return OfflineRun


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    """No key, and nothing of wandb outside the test's folder."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def cell_value(name, cell):
    """A cell of progress.csv as a sink should have heard it."""
    return None if cell == "" else cell if name == "ended_by" else json.loads(cell)
