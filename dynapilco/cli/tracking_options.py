"""The options about tracking, shared by ``train`` and ``log``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dynapilco.core.errors import UserError
from dynapilco.tracking.wandb_options import LONGEST_NAME, WandbOptions

PREFIX = "wandb_"
METAVARS = {
    "wandb_project": "NAME",
    "wandb_entity": "NAME",
    "wandb_group": "NAME",
    "wandb_name": "NAME",
    "wandb_tags": "TAG",
    "wandb_mode": "MODE",
}


@dataclass(frozen=True)
class TrackingOptions:
    """Where a run is told of, beside its folder."""

    track: bool = False
    """Also log to Weights & Biases (offline when there is no key)."""
    wandb_project: str | None = None
    """Project on Weights & Biases; by default WANDB_PROJECT, else dynapilco."""
    wandb_entity: str | None = None
    """User or team on Weights & Biases; by default the one of the key."""
    wandb_group: str | None = None
    """Group of runs; by default ENV__METHOD, so that seeds stand together."""
    wandb_tags: tuple[str, ...] = ()
    """Tags on Weights & Biases: --wandb-tags one two."""
    wandb_mode: str | None = None
    """'online', 'offline' (upload later with "wandb sync") or 'disabled'; by default WANDB_MODE, else online where
    there is a key, else offline."""
    wandb_name: str | None = None
    """Name of the run on Weights & Biases; by default that of its folder."""
    tensorboard: bool = False
    """Also write for TensorBoard, to RUN_DIR/tensorboard."""

    def __post_init__(self) -> None:
        asked = [f.name for f in fields(self) if f.name.startswith(PREFIX) and getattr(self, f.name) != f.default]
        if asked and not self.track:
            option = asked[0].replace("_", "-")
            raise UserError(f"{asked[0]}={getattr(self, asked[0])!r} does nothing: --{option} expects --track with it")
        options = self.wandb()
        if self.track:
            options.mode_in(os.environ)

    def wandb(self, group: str | None = None) -> WandbOptions:
        """What W&B gets to know; ``group`` where none was asked for."""
        given: Mapping[str, Any] = {
            f.name.removeprefix(PREFIX): getattr(self, f.name) for f in fields(self) if f.name.startswith(PREFIX)
        }
        return WandbOptions(**{**given, "group": given["group"] or (group and group[:LONGEST_NAME])})
