"""All statistics of a comparison, and how they are written."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from dynapilco.compare import parquet
from dynapilco.core.atomic import write_atomically
from dynapilco.core.errors import UserError, unknown_name

JSON_FILE, WORDS_FILE = "statistics.json", "statistics.txt"


@dataclass(frozen=True)
class Statistics:
    """Tidy tables (docs/reference/statistics.md says what each column is) and what they say, the answer first."""

    aggregates: pd.DataFrame
    pairwise: pd.DataFrame
    profiles: pd.DataFrame
    curves: pd.DataFrame
    success: pd.DataFrame
    survival: pd.DataFrame
    trials_to_success: pd.DataFrame
    survival_tests: pd.DataFrame
    uncertainty: pd.DataFrame
    cost: pd.DataFrame
    sentences: list[str]
    settings: dict[str, object]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by its name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), pd.DataFrame)}

    def to_json(self) -> str:
        """One JSON object: settings, sentences, and each table as a list of rows; null where there is no number."""
        # pandas writes NaN as null, which Python's own writer would not
        tables = {
            name: json.loads(str(table.to_json(orient="records", double_precision=15)))
            for name, table in self.tables().items()
        }
        return (
            json.dumps({"settings": self.settings, "sentences": self.sentences, **tables}, indent=1, allow_nan=False)
            + "\n"
        )

    def write(self, directory: str | Path, *, force: bool = False, format: str = "csv") -> list[Path]:
        """Write statistics.json, statistics.txt (the sentences) and a CSV or Parquet file a table; return their paths.

        Raises
        ------
        UserError
            If one of the files is there and ``force`` is false; for another format; where pyarrow is missing.
        """
        if format not in ("csv", "parquet"):
            raise unknown_name("format", format, ("csv", "parquet"))
        directory = Path(directory)
        contents: dict[str, bytes] = {
            JSON_FILE: self.to_json().encode(),
            WORDS_FILE: ("\n".join(self.sentences) + "\n").encode(),
        }
        for name, table in self.tables().items():
            csv = format == "csv"
            content = table.to_csv(index=False, lineterminator="\n").encode() if csv else parquet.content(table)
            contents[f"{name}.{format}"] = content
        there = [name for name in contents if (directory / name).exists()]
        if there and not force:
            raise UserError(
                f"{directory} already holds {', '.join(there)}; choose another directory, or force to overwrite"
            )
        for name, content in contents.items():
            write_atomically(directory / name, content)
        return [directory / name for name in contents]
