"""Saved states: whole, checked, and never half-written."""

import contextlib
import json
import math
import os

import pytest
import torch

from dynapilco.core import storage
from dynapilco.core.errors import CheckpointError
from dynapilco.core.storage import STATE_FILE, read_fields, read_tensors, save_state, write_atomically


def tensors(value):
    return {"a/b": torch.full((3, 2), value), "n": torch.arange(4), "none": torch.zeros(0, 5)}


def read(folder):
    fields = read_fields(folder)
    return fields, read_tensors(folder, fields)


def blob(folder):
    (file,) = folder.glob("tensors-*.safetensors")
    return file


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "model.zip"  # exactly this path, whatever its suffix
    save_state(folder, tensors(1.0), {"k": 1})
    return folder


class Crash(BaseException):
    """As Ctrl-C or a kill."""


def test_round_trip_is_exact(tmp_path):
    made = {
        "x": torch.randn(7, 3, generator=torch.Generator().manual_seed(0)),
        "double": torch.tensor([math.pi], dtype=torch.float64),
        "view": torch.arange(6).reshape(2, 3).T,
        "grad": torch.ones(2, requires_grad=True),
    }
    fields = {"pi": math.pi, "tiny": 5e-324, "nan": math.nan, "nothing": None, "list": [1, [2]], "text": "ö"}
    save_state(tmp_path / "deep" / "er", made, fields)
    found, back = read(tmp_path / "deep" / "er")
    assert back.keys() == made.keys()
    for name, tensor in made.items():
        assert torch.equal(back[name], tensor)
        assert back[name].dtype == tensor.dtype
    assert math.isnan(found.pop("nan"))
    assert {name: found[name] for name in fields if name != "nan"} == {k: v for k, v in fields.items() if k != "nan"}


def test_two_files_and_no_rubbish(saved):
    save_state(saved, tensors(2.0), {"k": 2})
    assert sorted(p.name for p in saved.iterdir()) == sorted([STATE_FILE, blob(saved).name])
    assert read(saved)[1]["a/b"][0, 0] == 2.0


def test_nothing_is_pickled(saved):
    for file in saved.iterdir():
        content = file.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))
        assert b"torch" not in content
    json.loads((saved / STATE_FILE).read_text())
    header = int.from_bytes(blob(saved).read_bytes()[:8], "little")
    json.loads(blob(saved).read_bytes()[8 : 8 + header])


def test_tensors_that_share_memory_can_be_saved(tmp_path):
    base = torch.arange(4.0)
    save_state(tmp_path, {"base": base, "half": base[:2], "same": base}, {})
    assert torch.equal(read(tmp_path)[1]["half"], base[:2])


def test_a_crash_between_tensors_and_json_leaves_the_old_state(saved, monkeypatch):
    real = storage.write_atomically

    def crash(path, content):
        if path.name == STATE_FILE:
            raise Crash
        real(path, content)

    monkeypatch.setattr(storage, "write_atomically", crash)
    with pytest.raises(Crash):
        save_state(saved, tensors(2.0), {"k": 2})
    fields, back = read(saved)
    assert fields["k"] == 1
    assert back["a/b"][0, 0] == 1.0
    monkeypatch.undo()
    save_state(saved, tensors(3.0), {"k": 3})
    assert blob(saved).exists()  # exactly one: the orphan of the crash is gone
    assert read(saved)[1]["a/b"][0, 0] == 3.0


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_crash_in_any_system_call_leaves_one_whole_state(saved, monkeypatch, name, at):
    real, calls = getattr(os, name), []

    def crash(*arguments):
        calls.append(arguments)
        if len(calls) == at:
            raise Crash
        return real(*arguments)

    monkeypatch.setattr(os, name, crash)
    many = {"fsync": 4, "replace": 2}[name]  # of two files and, for fsync, their folder after each
    with pytest.raises(Crash) if at <= many else contextlib.nullcontext():
        save_state(saved, tensors(2.0), {"k": 2})
    assert len(calls) == min(at, many)
    fields, back = read(saved)
    assert back["a/b"][0, 0] == fields["k"]
    assert fields["k"] in (1, 2)


def test_a_crash_while_writing_leaves_no_temporary_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", "old")

    def crash(*_):
        raise Crash

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(Crash):
        write_atomically(tmp_path / "file", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_the_same_content_twice(saved):
    save_state(saved, tensors(1.0), {"k": 1})
    assert read(saved)[0]["k"] == 1


def test_fields_that_json_cannot_hold_leave_the_old_state(saved):
    with pytest.raises(TypeError):
        save_state(saved, tensors(2.0), {"k": object()})
    assert read(saved)[1]["a/b"][0, 0] == 1.0


@pytest.mark.parametrize("size", [0, 1, 7, 20, -1])
def test_truncated_tensors(saved, size):
    file = blob(saved)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read(saved)


def test_one_changed_bit(saved):
    content = bytearray(blob(saved).read_bytes())
    content[-1] ^= 1
    blob(saved).write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256"):
        read(saved)


def test_changed_digest(saved):
    fields = read_fields(saved)
    fields["tensors"]["sha256"] = "0" * 64
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_tensors(saved, fields)


def test_a_rightly_hashed_file_that_is_not_safetensors(saved):
    import hashlib

    blob(saved).write_bytes(b"\x80\x04nonsense")
    fields = read_fields(saved)
    fields["tensors"]["sha256"] = hashlib.sha256(b"\x80\x04nonsense").hexdigest()
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(saved, fields)


def test_missing_tensors(saved):
    blob(saved).unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        read(saved)


@pytest.mark.parametrize("text", ["", "{", '{"k": 1', "[]", "3", '"x"', "{}", '{"tensors": {}}', '{"tensors": 3}'])
def test_damaged_json(saved, text):
    (saved / STATE_FILE).write_text(text)
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_fields(saved)


def test_json_that_is_not_text(saved):
    (saved / STATE_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_fields(saved)


def test_truncated_json(saved):
    text = (saved / STATE_FILE).read_text()
    (saved / STATE_FILE).write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError):
        read_fields(saved)


def test_no_json_at_all(tmp_path):
    with pytest.raises(CheckpointError, match=STATE_FILE):
        read_fields(tmp_path)


def test_the_name_in_the_json_cannot_lead_out_of_the_folder(saved):
    outside = saved.parent / "outside.safetensors"
    blob(saved).rename(outside)
    fields = read_fields(saved)
    fields["tensors"]["file"] = f"../{outside.name}"
    with pytest.raises(CheckpointError, match="missing"):
        read_tensors(saved, fields)
