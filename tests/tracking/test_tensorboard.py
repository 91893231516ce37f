import csv
import json

import pytest

from dynapilco.core.errors import UserError
from dynapilco.tracking.files import FigureSink, FileSink
from dynapilco.tracking.recorded import Recorded
from dynapilco.tracking.tensorboard import TensorBoardSink

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0, "histograms": 0})
    return found.Reload()


def tell(sinks, make, trials):
    for sink in sinks:
        sink.start(make.config, 3)
    for trial in trials:
        for sink in sinks:
            sink.fitted(trial, {"potential": -1.5})
            sink.improved(trial, {"predicted_return": 12.5})
            sink.trial(make.trial(trial))
    for sink in sinks:
        sink.close()


def test_scalars_are_those_of_progress_csv(tmp_path, make):
    tell([FileSink(tmp_path), FigureSink(tmp_path), TensorBoardSink(tmp_path)], make, [0, 1, 2])
    found = read(tmp_path)
    with (tmp_path / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in rows[0].keys() - {"ended_by"}:  # a word is no scalar
        expected = [(int(row["env_steps"]), float(json.loads(row[name]))) for row in rows if row[name]]
        if not expected:
            assert f"trial/{name}" not in found.Tags()["scalars"]
            continue
        logged = [(event.step, event.value) for event in found.Scalars(f"trial/{name}")]
        assert logged == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    assert [(e.step, e.value) for e in found.Scalars("model/potential")] == [(0, -1.5), (20, -1.5), (40, -1.5)]
    assert [e.step for e in found.Images("trial/prediction")] == [40, 60]
    (pit, _) = found.Histograms("trial/pit")
    assert pit.histogram_value.num == sum(range(20))
    spread = found.Histograms("spread/epistemic/x")[0].histogram_value
    assert spread.num == 20  # one of the 21 is not finite


def test_a_resumed_run_goes_on_and_writes_its_past_only_where_it_is_missing(tmp_path, make):
    past = Recorded([make.trial(0), make.trial(1)])
    tell([TensorBoardSink(tmp_path, past)], make, [2])
    assert [event.step for event in read(tmp_path).Scalars("trial/return")] == [20, 40, 60]
    sink = TensorBoardSink(tmp_path, Recorded([make.trial(i) for i in range(3)]))
    tell([sink], make, [3])
    found = read(tmp_path)
    assert [event.step for event in found.Scalars("trial/return")] == [20, 40, 60, 80]
    assert found.Scalars("model/potential")[-1].step == 60


def test_without_tensorboard_it_says_so(tmp_path, make, monkeypatch):
    monkeypatch.setattr("stable_baselines3.common.logger.SummaryWriter", None)
    with pytest.raises(UserError, match="TensorBoard is not installed: pip install tensorboard"):
        TensorBoardSink(tmp_path).start(make.config, 1)
