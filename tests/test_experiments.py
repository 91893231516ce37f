"""The scripts under ``experiments/`` run: on the smallest input that goes through all their code."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
TINY = [
    *("--inference-kwargs.members", "2", "--inference-kwargs.cold-steps", "5", "--inference-kwargs.warm-steps", "5"),
    *("--search.steps", "4", "--search.screening-steps", "2", "--search.fresh-starts", "1"),
    *("--rollout.total-particles", "8", "--total-timesteps", "120", "--no-video"),
]


def load(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXPERIMENTS / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(module, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
    module.main()


def test_learning_counts_every_seed_and_resumes(tmp_path, monkeypatch, capsys):
    learning = load("learning.py")
    words = ["--config", EXPERIMENTS / "quickstart.toml", "--seeds", "0", "2", "--name", "tiny", "--jobs", "1"]
    words += ["--runs", tmp_path / "runs", "--tables", tmp_path / "tables", "--", *TINY]
    run(learning, monkeypatch, *words)
    with (tmp_path / "tables" / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "1"]
    assert all(row["solved"] == "False" for row in rows)
    assert "0 of 2 seeds" in capsys.readouterr().out
    (tmp_path / "runs" / "tiny" / "seed-1" / "summary.json").unlink()
    before = (tmp_path / "runs" / "tiny" / "seed-0" / "summary.json").stat().st_mtime_ns
    run(learning, monkeypatch, *words)
    assert (tmp_path / "runs" / "tiny" / "seed-0" / "summary.json").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "runs" / "tiny" / "seed-1" / "summary.json").read_text())["seed"] == 1
    with (tmp_path / "tables" / "tiny.csv").open() as file:
        assert [r["successful_trials"] for r in csv.DictReader(file)] == [r["successful_trials"] for r in rows]


def test_a_seed_that_never_finished_is_a_failure(tmp_path):
    learning = load("learning.py")
    results = [learning.read_seed(tmp_path / "missing", 0)]
    assert "0 of 1 seeds" in learning.report(results)
    assert "counted as failures): 1" in learning.report(results)


def test_the_benchmark_prints_a_ratio_for_each_case(monkeypatch, capsys):
    benchmark = load("benchmarks/policy_gradient_step.py")
    monkeypatch.setattr(benchmark, "CASES", (("2x3x4x(2x8)", 2, 3, 4, 8),))
    run(benchmark, monkeypatch, "--repeats", "2", "--engines", "torch")
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("2x3x4x(2x8)")
    assert float(line.split()[-1]) > 0


def test_the_ablation_counts_candidates(tmp_path, monkeypatch, capsys):
    ablation = load("search_ablation.py")
    monkeypatch.setattr(ablation, "ROWS", 50)
    monkeypatch.setattr(ablation, "FIT_STEPS", 3)
    monkeypatch.setattr(ablation, "SETTINGS", {"tiny": {"steps": 2, "screening_steps": 1}})
    words = ["--env-id", "dynapilco/PendulumSwingUp-v0", "--candidates", "2", "--settings", "tiny"]
    run(ablation, monkeypatch, *words, "--table", tmp_path / "table.csv")
    assert "0/2 succeed" in capsys.readouterr().out
    with (tmp_path / "table.csv").open() as file:
        assert next(csv.DictReader(file))["candidates"] == "2"


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda p: p.stem)
def test_the_configurations_are_valid(file):
    from dynapilco.agent.config_file import build_config, read_toml

    config = build_config(read_toml(file))
    assert config.total_timesteps > 0
