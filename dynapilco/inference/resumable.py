"""A fit that leaves checkpoints behind and goes on from them."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.core.seeding import torch_generator
from dynapilco.core.storage import STATE_FILE, read_fields, read_tensors, save_state
from dynapilco.inference.fitting import Callback, Fit, FitReport
from dynapilco.inference.method import State, name_of
from dynapilco.inference.target import Target

if TYPE_CHECKING:
    from dynapilco.inference.module import BayesianModule

KIND = "dynapilco.inference.fit"


class DivergenceError(UserError):
    """Training met numbers that are not finite, and went back to the last good state."""


def fit_with_checkpoints(
    bnn: BayesianModule,
    state: State,
    target: Target,
    seed: int,
    steps: int,
    *,
    callback: Callback | None,
    progress: bool,
    folder: str | Path | None,
    every: int,
) -> FitReport:
    """Train ``state`` in place; see ``BayesianModule.fit``."""
    if every < 1:
        raise UserError(f"checkpoint_every={every!r}: expected at least 1")
    folder = None if folder is None else Path(folder)
    generator = torch_generator(seed, "fit", device=state["params"].device)
    label = {"kind": KIND, "settings": bnn.settings, "data": _digest(target), "stream": seed, "steps": steps}
    run = _resumed(folder, label, bnn, state, target, generator) if folder is not None else None
    if run is None:
        run = Fit(bnn.method, state, target, generator, steps)
    with _bar(progress, run) as update:
        while not run.finished:
            run.advance(every if folder is not None else steps, _both(callback, update))
            if folder is not None and not run.diverged:
                _save(folder, label, run)
    if run.diverged:
        raise DivergenceError(
            f"inference {name_of(bnn.method)!r} diverged at step {run.done} of {steps}: the last good state is kept; "
            "try a smaller learning_rate or step_size, standardised data, or more noise (likelihood floor)"
        )
    return run.report()


def _digest(target: Target) -> str:
    whole = target.all
    digest = hashlib.sha256()
    for tensor in (whole.x, whole.y, *([] if whole.weights is None else [whole.weights])):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _save(folder: Path, label: dict[str, Any], run: Fit) -> None:
    tensors, fields = run.snapshot()
    save_state(folder, tensors, {**label, **fields})


def _resumed(
    folder: Path, label: dict[str, Any], bnn: BayesianModule, state: State, target: Target, generator: torch.Generator
) -> Fit | None:
    if not (folder / STATE_FILE).is_file():
        return None
    saved = read_fields(folder)
    if saved.get("kind") != KIND:
        raise CheckpointError(f"checkpoint={str(folder)!r} holds something else than a fit: choose another folder")
    for name, value in label.items():
        if saved.get(name) != value:
            raise CheckpointError(
                f"checkpoint={str(folder)!r} is of another fit ({name} differ): choose another folder, or delete it"
            )
    tensors = read_tensors(folder, saved)
    return Fit.restored(bnn.method, state, target, generator, tensors, saved)


def _both(callback: Callback | None, update: Callback | None) -> Callback | None:
    if callback is None or update is None:
        return callback or update

    def call(done: int, steps: int, metrics: dict[str, float]) -> None:
        update(done, steps, metrics)
        callback(done, steps, metrics)

    return call


class _Bar:
    """A tqdm bar over updates, with the potential beside it."""

    def __init__(self, run: Fit) -> None:
        from tqdm.auto import tqdm  # the terminal or the notebook, found when it is needed

        self.bar = tqdm(total=run.steps, initial=run.done, desc=name_of(run.method), unit="step")

    def __enter__(self) -> Callback:
        def update(done: int, steps: int, metrics: dict[str, float]) -> None:
            self.bar.update(done - self.bar.n)
            self.bar.set_postfix({name: f"{value:.4g}" for name, value in metrics.items()})

        return update

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


def _bar(progress: bool, run: Fit) -> Any:
    return _Bar(run) if progress else nullcontext(None)
