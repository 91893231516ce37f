"""Where and how a run is tracked on Weights & Biases; checked before any work, without importing wandb."""

from __future__ import annotations

import netrc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from dynapilco.core.errors import UserError, unknown_name

MODES = ("online", "offline", "disabled")
FORBIDDEN = frozenset("/\\#?%:")
"""Signs that W&B refuses in the name of a project."""
LONGEST_NAME, LONGEST_TAG = 128, 64


@dataclass(frozen=True)
class WandbOptions:
    """How a run appears on Weights & Biases."""

    project: str | None = None
    """Project on Weights & Biases; by default WANDB_PROJECT, else dynapilco."""
    entity: str | None = None
    """User or team on Weights & Biases; by default the one of the key."""
    group: str | None = None
    """Group of runs; by default ENV__METHOD, so that seeds stand together."""
    name: str | None = None
    """Name of the run; by default that of its folder."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    mode: str | None = None
    """'online', 'offline' (upload later with "wandb sync") or 'disabled'; by default WANDB_MODE, else online where
    there is a key, else offline."""

    def __post_init__(self) -> None:
        for field in ("project", "entity", "group", "name"):
            _check_text(field, getattr(self, field), LONGEST_NAME)
        if not isinstance(self.tags, list | tuple):
            raise UserError(f"wandb_tags={self.tags!r}: expected a list of texts")
        for tag in self.tags:
            _check_text("tags", "" if tag is None else tag, LONGEST_TAG)
        bad = sorted(FORBIDDEN & set(self.project or ""))
        if bad:
            raise UserError(f"wandb_project={self.project!r}: expected a name without {' '.join(bad)}")
        if self.mode is not None and self.mode not in MODES:
            raise unknown_name("wandb_mode", self.mode, MODES)

    def project_in(self, environ: Mapping[str, str]) -> str:
        """The project: what was asked for, else ``WANDB_PROJECT``, else dynapilco."""
        return self.project or environ.get("WANDB_PROJECT") or "dynapilco"

    def mode_in(self, environ: Mapping[str, str]) -> str:
        """The mode: what was asked for, else ``WANDB_MODE``, else online where a key is at hand, else offline.

        Without a key and a terminal wandb would refuse to start, so the choice is made here.

        Raises
        ------
        UserError
            When ``WANDB_MODE`` is none of the modes.
        """
        if self.mode is not None:
            return self.mode
        if asked := environ.get("WANDB_MODE"):
            known = {"run": "online", "dryrun": "offline"}.get(asked, asked)  # wandb's old names
            if known not in MODES:
                raise unknown_name("WANDB_MODE", asked, MODES)
            return known
        return "online" if has_key(environ) else "offline"


def has_key(environ: Mapping[str, str]) -> bool:
    """Whether a key is in the environment or in the netrc file."""
    if environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return host in netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def _check_text(field: str, value: object, longest: int) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise UserError(f"wandb_{field}={value!r}: expected a text of 1 to {longest} characters")
