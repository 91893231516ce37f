"""Writing files so that a crash at any moment leaves either the old content or the new one."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors

from dynapilco.core.atomic import write_atomically
from dynapilco.core.errors import CheckpointError

__all__ = ["STATE_FILE", "read_fields", "read_tensors", "save_state", "write_atomically"]

STATE_FILE = "state.json"
_OWN_FILE = re.compile(r"tensors-[0-9a-f]{16}\.safetensors")


def save_state(folder: Path, tensors: dict[str, torch.Tensor], fields: dict[str, Any]) -> None:
    """Write tensors (safetensors) and fields (JSON) as one transaction.

    The tensors go to a file named after their content; ``state.json`` names it and is replaced last, so the rename of
    that one small file is the moment when the new state takes over from the old.

    Parameters
    ----------
    folder : Path
        Made if it is not there; exactly this path, whatever its suffix.
    tensors : dict of str to Tensor
    fields : dict
        Anything that JSON can hold.
    """
    blob = dump_tensors({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    digest = hashlib.sha256(blob).hexdigest()
    file = f"tensors-{digest[:16]}.safetensors"
    write_atomically(folder / file, blob)
    document = {**fields, "tensors": {"file": file, "sha256": digest}}
    write_atomically(folder / STATE_FILE, json.dumps(document, indent=1, allow_nan=True) + "\n")
    for old in folder.glob("tensors-*.safetensors"):
        if old.name != file and _OWN_FILE.fullmatch(old.name):
            old.unlink(missing_ok=True)


def read_fields(folder: Path) -> dict[str, Any]:
    """Read the JSON half of a saved state.

    Raises
    ------
    CheckpointError
        When the file is missing or is not whole.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise CheckpointError(f"checkpoint {str(folder)!r} holds no {STATE_FILE}: expected a folder written by save()")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not {"file", "sha256"} <= set(fields["tensors"]):
            raise KeyError("tensors")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {str(path)!r} is truncated or damaged ({type(error).__name__})") from error
    return fields


def read_tensors(folder: Path, fields: dict[str, Any], device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Read the tensors that ``fields`` names, after checking their digest.

    Raises
    ------
    CheckpointError
        When the file is missing, cut short or changed.
    """
    path = folder / Path(fields["tensors"]["file"]).name
    if not path.is_file():
        raise CheckpointError(f"checkpoint {str(folder)!r} is incomplete: {path.name} is missing")
    blob = path.read_bytes()
    if hashlib.sha256(blob).hexdigest() != fields["tensors"]["sha256"]:
        raise CheckpointError(f"checkpoint {str(path)!r} is truncated or damaged: its SHA-256 does not match")
    try:
        return {name: t.to(device) for name, t in load_tensors(blob).items()}
    except SafetensorError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} is damaged: {error}") from error
