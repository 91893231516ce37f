"""Tables as Parquet, by pyarrow, which is an extra: the typed columns of a table, read without running anything."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from dynapilco.core.atomic import write_atomically
from dynapilco.core.errors import UserError

SUFFIX = ".parquet"
NAMES = ("runs", "trials")


def installed() -> bool:
    """Whether Parquet can be read and written."""
    return find_spec("pyarrow") is not None


def content(frame: pd.DataFrame) -> bytes:
    """A table as the bytes of a file.

    Raises
    ------
    UserError
        Where pyarrow is missing.
    """
    _need()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def read(path: Path) -> pd.DataFrame:
    """A table from a file; columns have the types that the file says.

    Raises
    ------
    UserError
        Where pyarrow is missing, and for a file that is no Parquet.
    """
    _need()
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet as reader  # pyright: ignore[reportMissingImports]

    try:
        table: Any = reader.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{str(path)!r} cannot be read as Parquet: {first}") from error
    return table.to_pandas(ignore_metadata=True)  # the metadata of pandas is not needed, and not trusted


def beside(root: Path, load: Callable[[Path], tuple[pd.DataFrame, pd.DataFrame]]) -> None:
    """Keep the Parquet files of a folder as new as its CSV files; remove them where they cannot be kept."""
    paths = [root / f"{name}{SUFFIX}" for name in NAMES]
    if not installed():
        for path in paths:
            path.unlink(missing_ok=True)
        return
    for path, frame in zip(paths, load(root), strict=True):
        write_atomically(path, content(frame))


def _need() -> None:
    if not installed():
        raise UserError("format='parquet': pyarrow is not installed: pip install 'dynapilco[parquet]'")
