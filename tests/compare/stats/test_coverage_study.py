"""The committed study of coverage: its truths, its script, and that the package prints what it found."""

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
STUDY = ROOT / "docs" / "results" / "interval-coverage.csv"
KNOWN = ROOT / "dynapilco" / "compare" / "stats" / "known_coverage.csv"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return importlib.import_module("interval_coverage")


@pytest.fixture
def families(study):
    return importlib.import_module("coverage_parts.families")


@pytest.mark.parametrize("family", ["normal", "beta", "u-shaped beta", "bimodal", "student t3", "lognormal"])
def test_the_true_values_are_those_of_a_large_sample(families, family):
    rng, tasks = np.random.default_rng(0), families.tasks_of(family, 3)
    drawn = np.stack([task.draw(rng, (200_000,)) for task in tasks])
    pooled = np.sort(drawn.ravel())
    assert families.true_iqm(tasks) == pytest.approx(pooled[150_000:450_000].mean(), abs=0.01)
    assert families.true_mean(tasks) == pytest.approx(drawn.mean(), abs=0.02)
    better = families.tasks_of(family, 3, 0.5)
    wins = np.stack([task.draw(rng, (200_000,)) for task in better]) > drawn
    assert families.true_improvement(better, tasks) == pytest.approx(wins.mean(), abs=0.005)


def test_the_script_runs_resumes_and_writes_its_tables(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "SEEDS", (10, 3))
    monkeypatch.setattr(study, "TASKS", (1, 2))
    words = ["script", "--repetitions", "20", "--other-repetitions", "10", "--resamples", "50", "--only", "rate,mean"]
    words += ["--out", str(tmp_path), "--known", str(tmp_path / "known.csv")]
    monkeypatch.setattr(sys, "argv", words)
    study.main()
    table = tmp_path / "interval-coverage.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:30]) + "\n")
    study.main()
    assert sorted(table.read_text().splitlines()) == sorted(lines)
    assert "| normal |" in (tmp_path / "interval-coverage.md").read_text()
    with (tmp_path / "known.csv").open() as file:
        assert {row["statistic"] for row in csv.DictReader(file)} == {"rate", "mean"}


@pytest.mark.parametrize("name", ["Tukey-McLaughlin t", "bootstrap-t", "BCa", "expanded percentile"])
def test_the_candidates_hold_the_estimate(study, name):
    candidates = importlib.import_module("coverage_parts.candidates")
    rng = np.random.default_rng(0)
    strata = [rng.normal(size=(5, 10)), rng.normal(1.0, size=(5, 10))]
    low, high = candidates.CANDIDATES[name](strata, rng, 400)
    centre = candidates.iqm(strata)
    assert ((low < centre) & (centre < high)).all()


def test_the_package_prints_what_the_committed_study_found(study, tmp_path):
    table = importlib.import_module("coverage_parts.table")
    table.write_known(tmp_path / "known.csv", list(study.read(STUDY).values()))
    assert sorted((tmp_path / "known.csv").read_text().splitlines()) == sorted(KNOWN.read_text().splitlines())


def test_notes_name_the_kinds_of_scores_that_fall_short():
    from dynapilco.compare.stats.known import coverage_note

    assert "lognormal" in coverage_note("mean", "calibrated", 10, 1)
    assert "lognormal" not in coverage_note("iqm", "calibrated", 10, 1)
    assert coverage_note("median", "calibrated", 10, 1) == coverage_note("mean", "calibrated", 10, 1)
    assert coverage_note("iqm", "calibrated", 12, 1).endswith("(simulated at 10 seeds)")
    assert coverage_note("iqm", "calibrated", 2, 1) == "not simulated"
    assert coverage_note("iqm", "calibrated", 1, 1) == "no interval from one seed"
