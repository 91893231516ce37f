import json

import numpy as np

from dynapilco.tracking.events import EventSink, read_events, trial_details
from dynapilco.tracking.pit import pit_counts
from dynapilco.tracking.sink import Pit


def lines(folder):
    text = (folder / "events.jsonl").read_text()
    return [json.loads(line, parse_constant=lambda c: 1 / 0) for line in text.splitlines()]


def test_each_event_is_a_line(tmp_path, make):
    sink = EventSink(tmp_path / "run")
    sink.message("before the start")
    assert not (tmp_path / "run").exists()
    sink.start(make.config, 3)
    sink.fitted(1, {"steps": 40, "potential": float("nan"), "diverged": False})
    sink.improved(1, {"predicted_return": np.float32(12.5)})
    sink.trial(make.trial(1, ret=np.float64("inf")))
    sink.message("a fallback")
    sink.finish({"solved": True, "success_rate": 0.95})
    start, first, model, policy, trial, message, finish = lines(tmp_path / "run")
    assert [e["event"] for e in (start, model, policy, trial, finish)] == [
        "start", "model", "policy", "trial", "finish"
    ]  # fmt: skip
    assert (start["trials"], first["text"], message["text"]) == (3, "before the start", "a fallback")
    assert (model["steps"], model["potential"], policy["predicted_return"]) == (40, None, 12.5)
    assert (trial["trial"], trial["return"], trial["env_steps"]) == (1, None, make.row(1).env_steps)
    assert (trial["names"], trial["action_units"], trial["dt"]) == (["x", "x_dot"], ["N"], 0.05)
    assert (finish["solved"], finish["success_rate"]) == (True, 0.95)


def test_calibration_and_spread_are_read_back(tmp_path, make):
    sink, told = EventSink(tmp_path), make.trial(1)
    sink.start(make.config, 2)
    sink.trial(make.trial(0))
    sink.trial(told)
    _, explored, event = read_events(tmp_path)
    assert trial_details(explored) == {}
    found = trial_details(event)
    assert pit_counts(found["pit"]) == pit_counts(told.pit) == list(range(20))
    for kind in ("epistemic", "aleatoric"):
        np.testing.assert_allclose(getattr(found["spread"], kind), getattr(told.spread, kind), rtol=1e-5)
    assert np.isnan(found["spread"].epistemic[3, 0])
    assert (found["spread"].names, found["spread"].units) == (told.spread.names, told.spread.units)


def test_a_line_that_was_cut_short_harms_nothing(tmp_path, make):
    EventSink(tmp_path).start(make.config, 3)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "tri')
    EventSink(tmp_path).start(make.config, 3)
    assert [event["event"] for event in read_events(tmp_path)] == ["start", "start"]
    assert list(read_events(tmp_path / "elsewhere")) == []


def test_pit_counts_leave_out_what_is_not_finite():
    counts = pit_counts(Pit(np.array([[0.0, 0.04], [0.999, 1.0], [0.5, np.nan]]), ("x", "y")))
    assert len(counts) == 20
    assert (counts[0], counts[10], counts[-1], sum(counts)) == (2, 1, 2, 5)
