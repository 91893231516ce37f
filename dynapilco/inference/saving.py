"""A ``BayesianModule`` as JSON and safetensors, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.core.registry import Registry
from dynapilco.core.storage import read_fields, read_tensors, save_state
from dynapilco.inference.likelihoods import LIKELIHOODS
from dynapilco.inference.method import METHODS
from dynapilco.inference.own_loop import OwnLoop
from dynapilco.inference.priors import PRIORS

if TYPE_CHECKING:
    from dynapilco.inference.module import BayesianModule

FORMAT = "dynapilco.inference.BayesianModule"
VERSION = 1
B = TypeVar("B", bound="BayesianModule")

PARTS: dict[str, Registry[type]] = {"inference": METHODS, "likelihood": LIKELIHOODS, "prior": PRIORS}


def describe(bnn: BayesianModule, exclude: Sequence[str], engine: str) -> dict[str, Any]:
    """All settings as JSON values; a part that has no name in its registry is described by its class alone."""
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "inference": _part(METHODS, bnn.method),
        "likelihood": _part(LIKELIHOODS, bnn.model.likelihood),
        "prior": _part(PRIORS, bnn.model.prior),
        "exclude": list(exclude),
        "engine": engine,
        "outputs": bnn.model.outputs,
        "seed": bnn.seed,
        "parameters": {
            name: list(shape)
            for name, shape in zip(bnn.model.network.full.names, bnn.model.network.full.shapes, strict=True)
        },
    }
    return json.loads(json.dumps(settings))  # as a file would give them back: tuples are lists there


def save(bnn: BayesianModule, path: Path) -> None:
    """Write the module to the folder ``path``."""
    counters = {"calls": bnn.calls, "fits": bnn.fits, "run": None if bnn.loop is None else bnn.loop.numbers()}
    save_state(path, bnn.state, {**bnn.settings, **counters})


def load(cls: type[B], path: Path, net: nn.Module, parts: dict[str, Any]) -> B:
    """Build the module from the folder ``path`` around ``net``.

    Raises
    ------
    CheckpointError
        For a damaged folder, one of another kind, or a ``net`` whose parameters differ from those saved.
    """
    for name in parts:
        if name not in PARTS:
            raise UserError(f"load: unknown argument {name!r}: expected some of {', '.join(PARTS)}")
    saved = read_fields(path)
    if saved.get("format") != FORMAT or saved.get("version") != VERSION:
        raise CheckpointError(
            f"{str(path)!r} is not a {FORMAT} of version {VERSION}: found {saved.get('format')} {saved.get('version')}"
        )
    own = {name: list(p.shape) for name, p in net.named_parameters() if p.requires_grad}
    if own != saved["parameters"]:
        raise CheckpointError(f"net has parameters {own}, the checkpoint {str(path)!r} has {saved['parameters']}")
    state = read_tensors(path, saved)
    built = {name: parts.get(name) or _build(name, saved[name]) for name in PARTS}
    net_dtype = next(p.dtype for p in net.parameters() if p.requires_grad)
    bnn = cls(
        net, built["inference"], built["likelihood"], built["prior"], exclude=saved["exclude"],
        outputs=saved["outputs"], engine=saved["engine"], seed=saved["seed"],
    )  # fmt: skip
    if state["params"].dtype != net_dtype:
        bnn.to(state["params"].dtype)
    bnn.holder.store(state)
    bnn.calls, bnn.fits = saved["calls"], saved["fits"]
    bnn.loop = OwnLoop(bnn.method, *saved["run"]) if saved["run"] else None
    return bnn


def _part(registry: Registry[type], part: Any) -> dict[str, Any]:
    name = next((n for n, c in registry.items() if c is type(part)), None)
    options: dict[str, Any] | None = {}
    for f in fields(part) if is_dataclass(part) else ():
        value = getattr(part, f.name)
        if not _plain(value):
            options = None
            break
        options[f.name] = value
    known = name is not None and options is not None
    return {"name": name, "class": type(part).__name__, "options": options if known else None}


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_plain(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def _build(kind: str, saved: dict[str, Any]) -> Any:
    if saved["options"] is None:
        raise CheckpointError(
            f"the saved {kind} is an object of your own ({saved['class']}): pass it to load as {kind}=..."
        )
    return PARTS[kind][saved["name"]](**{k: _tuples(v) for k, v in saved["options"].items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
