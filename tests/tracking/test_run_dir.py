import tomllib
from datetime import datetime

import pytest

from dynapilco.core.errors import UserError
from dynapilco.tracking.run_dir import append_command, make_run_dir, run_name, write_config

WHEN = datetime(2026, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("env_id", "start"), [("dynapilco/A-v0", "dynapilco-A-v0"), ("module:ns/A-v0", "module-ns-A-v0")]
)
def test_name(env_id, start):
    assert run_name(env_id, "swag", 7, WHEN) == f"{start}__swag__s7__20260102-030405"


def test_a_name_that_is_taken_gets_a_number(tmp_path):
    made = [make_run_dir("a", root=tmp_path).name for _ in range(3)]
    assert made == ["a", "a-2", "a-3"]


def test_out_is_exactly_that_folder(tmp_path):
    assert make_run_dir("a", tmp_path / "x" / "y") == tmp_path / "x" / "y"
    assert make_run_dir("a", tmp_path / "x" / "y") == tmp_path / "x" / "y"  # still empty


def test_out_that_holds_something_is_refused(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        make_run_dir("a", tmp_path)
    with pytest.raises(UserError, match="not empty"):
        make_run_dir("a", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_config_and_commands(tmp_path):
    write_config(tmp_path, {"seed": 1, "search": {"learning_rate": 1e-3}})
    append_command(tmp_path, ["dynapilco", "train", "--out", "with space"])
    append_command(tmp_path, ["dynapilco", "train"])
    assert tomllib.loads((tmp_path / "config.toml").read_text()) == {
        "seed": 1,
        "search": {"learning_rate": 1e-3},
    }
    assert (tmp_path / "command.txt").read_text() == "dynapilco train --out 'with space'\ndynapilco train\n"
