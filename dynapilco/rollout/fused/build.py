"""Where the fused rollout's source lies, and its compilation."""

from __future__ import annotations

from pathlib import Path

from dynapilco.core import build as core
from dynapilco.core.build import BuildError

__all__ = ["BuildError", "build"]

SOURCE = Path(__file__).with_name("kernel.cpp")


def build() -> Path:
    """Return the path of the compiled library; raises ``BuildError`` where it cannot be compiled."""
    return core.build(SOURCE, "fused")
