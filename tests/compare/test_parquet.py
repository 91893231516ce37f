"""The same tables as CSV and as Parquet."""

import pandas as pd
import pytest

from dynapilco import compare
from dynapilco.compare import parquet
from dynapilco.compare.tables import LATER, collect
from dynapilco.core.errors import UserError


def same(a, b):
    for one, other in zip(a, b, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_what_is_saved_is_loaded(written, tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    tables = compare.load(written.root)
    paths = compare.save(*tables, tmp_path / "again", format=format)
    assert [path.name for path in paths] == [f"runs.{format}", f"trials.{format}"]
    same(compare.load(tmp_path / "again"), tables)
    with pytest.raises(UserError, match=f"runs.{format}' exists: expected another folder, or force=True"):
        compare.save(*tables, tmp_path / "again", format=format)
    assert compare.save(*tables, tmp_path / "again", format=format, force=True) == paths


def test_parquet_stands_beside_the_csv_files_as_new_as_they_are(written, monkeypatch):
    pytest.importorskip("pyarrow")
    files = [written.root / f"{name}.parquet" for name in ("runs", "trials")]
    same([pd.read_parquet(files[0])], [compare.load(written.root)[0]])
    for name in ("runs.csv", "trials.csv"):
        (written.root / name).rename(written.root / f"{name}.away")
    assert len(compare.load(written.root)[0]) == 4
    monkeypatch.setattr(parquet, "installed", lambda: False)
    with pytest.raises(UserError, match="pyarrow is not installed: pip install 'dynapilco"):
        compare.load(written.root)
    collect(written, [])
    assert not any(path.exists() for path in files)  # none rather than an old one


def test_statistics_are_written_as_parquet_too(written, tmp_path):
    pytest.importorskip("pyarrow")
    stats, _ = compare.infer(*compare.load(written.root))
    paths = stats.write(tmp_path / "stats", format="parquet")
    assert {path.suffix for path in paths} == {".json", ".txt", ".parquet"}
    pairs = pd.read_parquet(tmp_path / "stats" / "pairwise.parquet")
    pd.testing.assert_frame_equal(pairs, stats.pairwise, check_dtype=False)
    with pytest.raises(UserError, match="unknown format 'feather'"):
        stats.write(tmp_path / "stats", format="feather")


def test_bad_tables_are_refused(written, tmp_path, monkeypatch):
    runs, trials = compare.load(written.root)
    refused = {
        "has no column score": (runs.drop(columns="score"), trials),
        "seed is not an integer in every row": (runs.assign(seed="three"), trials),
        "status='over': expected done or failed or missing": (runs.assign(status="over"), trials),
        "seed 0 more than once": (pd.concat([runs, runs[:1]]), trials),
    }
    for said, tables in refused.items():
        with pytest.raises(UserError, match=said):
            compare.save(*tables, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    with pytest.raises(UserError, match="unknown format 'xlsx'"):
        compare.save(runs, trials, tmp_path / "bad", format="xlsx")
    pytest.importorskip("pyarrow")
    (tmp_path / "runs.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"runs.parquet' cannot be read as Parquet"):
        compare.load(tmp_path)
    monkeypatch.setattr(parquet, "installed", lambda: False)
    with pytest.raises(UserError, match="pyarrow is not installed"):
        compare.save(runs, trials, tmp_path / "bad", format="parquet")


def test_tables_of_earlier_versions_are_read(written):
    path = written.root / "trials.csv"
    old = pd.read_csv(path).drop(columns=list(LATER))
    old["explored"] = old["explored"].map({True: "true", False: "false"})
    old["success"] = old["success"].map({True: "true", False: "false"})
    old.to_csv(path, index=False)
    trials = compare.load(written.root)[1]
    assert trials[list(LATER)].isna().all().all() and len(trials) == 8
