"""Which commit of this package is running."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PATIENCE = 10.0
"""Seconds for one question to git."""


@lru_cache(maxsize=1)
def git_commit(folder: Path = PACKAGE) -> str | None:
    """The commit that the package was checked out at, with ``+changes`` where its files differ from it.

    None where the package is no checkout: an installed copy inside somebody else's repository is none either.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return commit and commit + ("+changes" if changed else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return None
    return done.stdout.strip() if done.returncode == 0 else None
