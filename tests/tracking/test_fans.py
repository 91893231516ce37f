import json

import numpy as np
import pytest

from dynapilco.tracking.fans import LEVELS, beliefs_file, beliefs_files, fan_values, pit_values, write_beliefs
from dynapilco.tracking.files import FigureSink
from dynapilco.tracking.sink import Pit, Trial


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_file_holds_the_quantiles_of_the_particles_and_what_happened(tmp_path, make):
    fan = make.fan()
    write_beliefs(tmp_path, Trial(make.row(3), fan, []))
    found = read(tmp_path / "fans" / "trial-003.json")
    assert found["trial"] == 3 and found["pit"] is None
    values = found["fan"]
    np.testing.assert_allclose(values["times"], fan.seconds, rtol=1e-4)
    np.testing.assert_allclose(np.array(values["observed"]).T, fan.observed, rtol=1e-4)
    np.testing.assert_allclose(np.array(values["actions"]).T, fan.actions, rtol=1e-4)
    expected = np.quantile(fan.predicted[:, 7, 2], LEVELS)
    np.testing.assert_allclose([band[7] for band in values["quantiles"][2]], expected, rtol=1e-4)
    assert values["names"] == list(fan.names) and values["clock"] == "s" and values["stride"] == 1


def test_lost_particles_are_counted_and_left_out(make):
    fan = make.fan()
    fan.predicted[4, 9:, :] = np.nan
    values = fan_values(fan)
    assert values["particles"] == 30 and values["particles_lost"] == 1
    assert np.isfinite(np.array(values["quantiles"])).all()
    fan.predicted[:] = np.inf
    assert fan_values(fan)["quantiles"] == [[]] * 4  # nothing left to draw, and no error


@pytest.mark.parametrize(("states", "steps"), [(6, 5000), (6, 300), (1, 20000)])
def test_a_file_stays_below_100_kb(tmp_path, make, states, steps):
    fan = make.fan(states=states, steps=steps, particles=8)
    write_beliefs(tmp_path, Trial(make.row(1), fan, [], Pit(np.random.default_rng(0).random((steps, 6)), ("x",) * 6)))
    file = beliefs_file(tmp_path, 1)
    assert file.stat().st_size < 100_000
    values = read(file)["fan"]
    np.testing.assert_allclose(values["times"][1], values["stride"] * 0.05, rtol=1e-4)
    assert len(values["times"]) == len(values["observed"][0]) == len(values["quantiles"][0][0])


def test_pit_values_are_counted_by_output():
    pit = pit_values(Pit(np.array([[0.01, 1.0], [0.06, 0.0], [np.nan, 0.5]]), ("x", "theta")))
    assert pit["names"] == ["x", "theta"] and pit["not_finite"] == 1
    assert pit["counts"][0][:3] == [1, 1, 0]
    assert (pit["counts"][1][0], pit["counts"][1][10], pit["counts"][1][-1]) == (1, 1, 1)


def test_nothing_is_written_of_exploration_and_the_rest_is_found_in_order(tmp_path, make):
    sink = FigureSink(tmp_path)
    sink.trial(make.trial(0))
    assert beliefs_files(tmp_path) == {}
    for trial in (10, 2):
        write_beliefs(tmp_path, make.trial(trial))
    (tmp_path / "fans" / ".trial-003.json.0123").write_text("half")
    assert list(beliefs_files(tmp_path)) == [2, 10]


def test_a_trial_that_is_done_again_overwrites_its_file_and_others_stay(tmp_path, make):
    first = FigureSink(tmp_path)
    for trial in range(3):
        first.trial(make.trial(trial))
    kept = beliefs_file(tmp_path, 1).read_bytes()
    beliefs_file(tmp_path, 2).write_text("old")
    again = FigureSink(tmp_path, history=[make.row(0), make.row(1)])
    again.trial(make.trial(2))
    assert beliefs_file(tmp_path, 1).read_bytes() == kept
    assert read(beliefs_file(tmp_path, 2))["trial"] == 2
