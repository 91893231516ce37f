"""All that decides the future of a run, and nothing else: what a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.errors import CheckpointError
from dynapilco.core.storage import STATE_FILE, read_fields, read_tensors, save_state
from dynapilco.dynamics import Transitions
from dynapilco.inference import State
from dynapilco.tracking.sink import TrialRow

FORMAT_VERSION = 1


@dataclass
class LoopState:
    """The loop between two trials.

    Random numbers are derived from (seed, purpose, trial), so no generator is stored; optimisers live within one trial.

    Attributes
    ----------
    data : Transitions
        All transitions so far.
    env_steps : int
    model : dict of str to Tensor
        State of the inference method and of the normalisers; empty before the first fit.
    policy_scale : Tensor or None
        How the policy sees the state, (D,); set once, after exploration.
    policies : Tensor
        One row for each policy trial, (K, n).
    policy_trials : list of int
        The trial of each row.
    delivered : int or None
        Row of the policy that ``predict`` uses.
    control : dict of str to Tensor
        What an agent that is trained in the model has learned; empty for other controllers.
    value : dict of str to Tensor
        Of the terminal value; empty before it was learned.
    history : list of TrialRow
    controller : str or None
        What acts, where it was chosen automatically.
    angles : list of list of int or None
        Columns of cosines and sines that were found in the first data; None where nobody looked.
    told : list of str
        Subjects of messages that are said once in a run, and were.
    """

    data: Transitions
    env_steps: int = 0
    model: State = field(default_factory=dict)
    policy_scale: Tensor | None = None
    policies: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    policy_trials: list[int] = field(default_factory=list)
    delivered: int | None = None
    control: State = field(default_factory=dict)
    value: State = field(default_factory=dict)
    history: list[TrialRow] = field(default_factory=list)
    controller: str | None = None
    angles: list[list[int]] | None = None
    told: list[str] = field(default_factory=list)

    @property
    def trials(self) -> int:
        """Number of finished trials."""
        return len(self.history)


def save(
    folder: Path, state: LoopState, config: dict[str, Any], environment: dict[str, Any], engine: str = "unknown"
) -> None:
    """Write a state, the configuration, a description of the environment, and the engine's name, atomically."""
    tensors = {f"data/{k}": v for k, v in state.data.tensors().items()}
    tensors |= {f"model/{k}": v for k, v in state.model.items()}
    tensors |= {f"control/{k}": v for k, v in state.control.items()}
    tensors |= {f"value/{k}": v for k, v in state.value.items()}
    tensors["policies"] = state.policies
    if state.policy_scale is not None:
        tensors["policy_scale"] = state.policy_scale
    fields = {
        "format": "dynapilco",
        "format_version": FORMAT_VERSION,
        "config": config,
        "environment": environment,
        "engine": engine,
        "env_steps": state.env_steps,
        "policy_trials": state.policy_trials,
        "delivered": state.delivered,
        "history": [asdict(row) for row in state.history],
        "controller": state.controller,
        "angles": state.angles,
        "told": state.told,
    }
    save_state(folder, tensors, fields)


def find(path: str | Path) -> Path:
    """The folder of a checkpoint, given it, or a run directory.

    Raises
    ------
    CheckpointError
    """
    path = Path(path)
    for folder in (path, path / "checkpoint", path.with_name(path.name + ".zip")):  # SB3's habit: no suffix
        if (folder / STATE_FILE).is_file():
            return folder
    if not path.exists():
        raise CheckpointError(f"path={str(path)!r} does not exist: expected a saved agent or a run directory")
    raise CheckpointError(f"path={str(path)!r} holds no finished trial: expected {STATE_FILE} in it or in checkpoint/")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read: the state, and the raw configuration, environment description and engine's name."""

    state: LoopState
    config: dict[str, Any]
    environment: dict[str, Any]
    engine: str | None = None


def load(path: str | Path) -> Checkpoint:
    """Read what :func:`save` wrote.

    Raises
    ------
    CheckpointError
        For a checkpoint that is missing, damaged or of another format version.
    """
    folder = find(path)
    fields = read_fields(folder)
    version = fields.get("format_version")
    if fields.get("format") != "dynapilco" or version != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {str(folder)!r} has format version {version!r}: this dynapilco reads version {FORMAT_VERSION}"
        )
    tensors = read_tensors(folder, fields)
    try:
        state = LoopState(
            data=Transitions(**_under(tensors, "data/")),
            env_steps=int(fields["env_steps"]),
            model=_under(tensors, "model/"),
            policy_scale=tensors.get("policy_scale"),
            policies=tensors["policies"],
            policy_trials=list(fields["policy_trials"]),
            delivered=fields["delivered"],
            control=_under(tensors, "control/"),
            value=_under(tensors, "value/"),
            history=[TrialRow(**row) for row in fields["history"]],
            controller=fields.get("controller"),
            angles=_columns(fields.get("angles")),
            told=[str(subject) for subject in fields.get("told", ())],
        )
        _check_consistent(state)
        return Checkpoint(state, dict(fields["config"]), dict(fields["environment"]), fields.get("engine"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {str(folder)!r} is damaged: {error!r}") from error


def _check_consistent(state: LoopState) -> None:
    """Raise ``ValueError`` for parts that do not fit each other, as after an edit by hand."""
    policies = len(state.policy_trials)
    fits = bool(state.history) == bool(len(state.data)) and len(state.policies) == policies
    if not fits or (state.delivered is None) != (policies == 0):
        raise ValueError("history, policies and delivered do not fit each other")
    if any(not 0 <= t < len(state.history) for t in state.policy_trials):
        raise ValueError(f"policy_trials={state.policy_trials}")
    if state.delivered is not None and not 0 <= state.delivered < policies:
        raise ValueError(f"delivered={state.delivered}")


def _columns(angles: Any) -> list[list[int]] | None:
    return None if angles is None else [[int(c) for c in pair] for pair in angles]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
