from dataclasses import asdict

import numpy as np
import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.core.storage import save_state
from dynapilco.tracking.events import EventSink
from dynapilco.tracking.files import progress_csv
from dynapilco.tracking.recorded import read_progress, read_recorded
from dynapilco.tracking.sink import Sink


def test_progress_is_read_exactly_as_it_was_written(tmp_path, make):
    rows = [make.row(0), make.row(1, ret=0.1 + 0.2), make.row(2, success=None, env_seconds=None, ret=1e300)]
    (tmp_path / "progress.csv").write_text(progress_csv(rows))
    found = read_progress(tmp_path)
    assert found == rows
    assert [type(value) for value in asdict(found[1]).values()] == [type(value) for value in asdict(rows[1]).values()]


@pytest.mark.parametrize(
    ("line", "cause"), [("1,x,,,,,,,,,,,", "invalid literal"), ("1,20", "NoneType"), ("", None)]
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_named(tmp_path, make, line, cause):
    (tmp_path / "progress.csv").write_text(progress_csv([make.row(0)]) + line + "\n")
    if cause is None:  # an empty line is none
        assert len(read_progress(tmp_path)) == 1
        return
    with pytest.raises(UserError, match=rf"line 3 of .*progress.csv.* cannot be read: .*{cause}"):
        read_progress(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no progress.csv: expected the folder of a run"):
        read_progress(tmp_path)


class Listener(Sink):
    def __init__(self):
        self.heard = []

    def fitted(self, trial, metrics):
        self.heard.append(("model", trial, metrics))

    def improved(self, trial, metrics):
        self.heard.append(("policy", trial, metrics))

    def trial(self, trial):
        self.heard.append(("trial", trial.row.trial))


def written(folder, make, trials=(0, 1)):
    """A run's folder with events and a checkpoint."""
    sink = EventSink(folder)
    sink.start(make.config, len(trials))
    sink.fitted(1, {"potential": 9.0})  # interrupted here, and begun again
    sink.fitted(1, {"potential": -1.5})
    sink.improved(1, {"predicted_return": 2.5})
    tensors = {}
    for trial in trials:
        told = make.trial(trial)
        sink.trial(told)
        for name in ("states", "next_states", "actions", "rewards"):
            values = torch.as_tensor(getattr(told.rollout, name)) + trial
            tensors[f"data/{name}"] = torch.cat([tensors.get(f"data/{name}", values[:0]), values])
        number = torch.full((len(told.rollout.rewards),), trial)
        tensors["data/trials"] = torch.cat([tensors.get("data/trials", number[:0]), number])
    save_state(folder / "checkpoint", tensors, {"history": []})


def test_a_recorded_run_is_told_in_the_order_in_which_it_happened(tmp_path, make):
    written(tmp_path, make)
    past, listener = read_recorded(tmp_path, [make.row(0), make.row(1)]), Listener()
    past.tell(listener)
    assert listener.heard == [
        ("trial", 0),
        ("model", 1, {"potential": -1.5}),
        ("policy", 1, {"predicted_return": 2.5}),
        ("trial", 1),
    ]
    assert past.env_steps == make.row(1).env_steps


def test_transitions_of_each_trial_come_from_the_checkpoint(tmp_path, make):
    written(tmp_path, make)
    for number, trial in enumerate(read_recorded(tmp_path, [make.row(0), make.row(1)]).trials):
        expected = make.rollout()
        for name in ("states", "next_states", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(trial.rollout, name), getattr(expected, name) + number)
        for name in ("dt", "names", "units", "action_names", "action_units"):
            assert getattr(trial.rollout, name) == getattr(expected, name)
        assert (trial.pit is None) == (number == 0)


def test_what_the_folder_does_not_hold_is_left_out(tmp_path, make):
    (trial,) = read_recorded(tmp_path, [make.row(1)]).trials
    assert (trial.rollout, trial.pit, trial.spread, trial.fan) == (None, None, None, None)
    written(tmp_path, make)
    (tmp_path / "events.jsonl").unlink()
    (trial,) = read_recorded(tmp_path, [make.row(1)]).trials
    assert trial.rollout.names == ("state 0", "state 1")
    assert trial.rollout.units == ("", "")
    assert trial.rollout.action_names == ("action 0",)


def test_a_table_of_an_older_version_lacks_columns_and_a_newer_one_has_more(tmp_path, make):
    header, row = progress_csv([make.row(1)]).splitlines()
    names, cells = header.split(","), row.split(",")
    at = names.index("nan_rollouts")
    lines = [*names[:at], *names[at + 1 :], "new"], [*cells[:at], *cells[at + 1 :], "7"]
    (tmp_path / "progress.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    assert read_progress(tmp_path) == [make.row(1, nan_rollouts=None)]
