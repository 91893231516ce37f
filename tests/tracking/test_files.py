import csv

import numpy as np

from dynapilco.tracking.files import FigureSink, FileSink, prediction_file, progress_csv, video_file
from dynapilco.tracking.sink import TrialRow


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def parse(cell):
    return {"": None, "true": True, "false": False}.get(cell, cell)


def test_progress_csv_has_exactly_the_columns_of_a_row(make):
    header = progress_csv([make.row(0)]).splitlines()[0]
    assert header.split(",") == TrialRow.columns()
    assert "return" in header.split(",")


def test_progress_csv_gives_back_every_value_exactly(tmp_path, make):
    rows = [
        make.row(0),
        make.row(1, ret=0.1 + 0.2, model_nll=float("nan")),
        make.row(2, success=None, ret=1e300),
    ]
    (tmp_path / "p.csv").write_text(progress_csv(rows))
    for row, cells in zip(rows, read(tmp_path / "p.csv"), strict=True):
        for name, value in row.cells().items():
            found = parse(cells[name])
            if value is None or isinstance(value, bool):
                assert found is value
            else:
                np.testing.assert_equal(type(value)(found), value)


def test_progress_csv_writes_numpy_values_like_pythons(make):
    plain = progress_csv([make.row(1, ret=1 / 3, success=True)])
    assert progress_csv([make.row(1, ret=np.float64(1 / 3), success=np.bool_(True))]) == plain


def test_nothing_is_written_before_start(tmp_path, make):
    sink = FileSink(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    sink.start(make.config, 3)
    assert (tmp_path / "run" / "progress.csv").is_file()


def test_a_resumed_run_drops_rows_after_its_checkpoint(tmp_path, make):
    first = FileSink(tmp_path)
    for trial in range(3):
        first.trial(make.trial(trial))
    assert len(read(tmp_path / "progress.csv")) == 3
    again = FileSink(tmp_path, history=[make.row(0)])
    again.start(make.config, 3)
    assert [r["trial"] for r in read(tmp_path / "progress.csv")] == ["0"]
    again.trial(make.trial(1))
    assert [r["trial"] for r in read(tmp_path / "progress.csv")] == ["0", "1"]


def names(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_files_of_a_trial(tmp_path, make):
    for sink in (FileSink(tmp_path / "run"), FigureSink(tmp_path / "pictures")):
        sink.trial(make.trial(0))
        sink.trial(make.trial(3, frames=4))
    assert names(tmp_path / "run") == {"progress.csv"}
    assert names(tmp_path / "pictures") == {
        "figures/learning_curve.png",
        "fans/trial-003.json",
        "figures/trial-03-prediction.png",
        "videos/trial-03.mp4",
    }
    assert prediction_file(tmp_path / "pictures", 3).is_file()
    assert video_file(tmp_path / "pictures", 3).name == "trial-03.mp4"
    assert video_file(tmp_path / "pictures", 0) is None


def test_a_resumed_run_shows_its_past_in_the_learning_curve(tmp_path, make):
    sink = FigureSink(tmp_path, history=[make.row(0)])
    sink.start(make.config, 3)
    assert names(tmp_path) == {"figures/learning_curve.png"}
