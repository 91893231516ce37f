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


def test_partial_tables_and_the_comparison_with_mc_pilco():
    learning = load("learning.py")
    rows = [{"predicted_return": "", "coverage_95_one_step": "", "coverage_95_horizon": ""}]
    rows += [{"predicted_return": "1", "coverage_95_one_step": c, "coverage_95_horizon": "1"} for c in ("0.5", "1")]
    wins = [[None, False, k < 45] for k in range(50)]
    results = [learning.SeedResult({"seed": k}, won, rows) for k, won in enumerate(wins)]
    lines = learning.success_lines(results)
    assert lines[0].startswith("trial 1: 0/50 (0% to 7%); MC-PILCO (recalled) 0/50, Fisher's exact test p = 1")
    assert lines[1].startswith("trial 2: 45/50 (79% to 96%)")
    assert float(lines[1].rpartition("= ")[2]) < 1e-10
    assert (
        learning.coverage_line(results, "coverage_95_one_step") == "0.750 (0.750 to 0.750); by policy trial 0.50 1.00"
    )
    other = [learning.SeedResult({"seed": 0, "env_id": "dynapilco/PendulumSwingUp-v0"}, [None, True], rows)]
    assert "MC-PILCO" not in learning.success_lines(other)[0]


def test_ablations_change_one_thing_at_a_time(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    ablations = load("ablations.py")
    monkeypatch.setattr(
        ablations, "COMMON", ("--total-timesteps", "120", "--no-video", *TINY[TINY.index("--search.steps") :])
    )
    monkeypatch.setattr(
        ablations, "SETTINGS", {"default": ("nothing", ()), "no evidence": ablations.SETTINGS["no evidence"]}
    )
    words = ["--seeds", "1000", "1001", "--jobs", "1", "--runs", tmp_path / "runs", "--table", tmp_path / "table.md"]
    run(ablations, monkeypatch, *words)
    text = (tmp_path / "table.md").read_text()
    assert "| default | nothing | 0/1 (0%-79%)" in text
    assert "| no evidence |" in text
    config = (tmp_path / "runs" / "no-evidence" / "seed-1000" / "config.toml").read_text()
    assert "evidence = false" in config
    before = text
    run(ablations, monkeypatch, *words, "--report")
    assert (tmp_path / "table.md").read_text() == before


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

    values = read_toml(file)
    values.pop("compare", None)  # see tests/compare
    assert build_config(values).total_timesteps > 0


def test_the_table_of_tasks_counts_every_seed(tmp_path, monkeypatch, capsys):
    module = load("tasks.py")
    goal = module.Goal("Pendulum-v1", 1_000, 2_000, -200.0)
    monkeypatch.setattr(module, "GOALS", (goal,))
    for seed, returns in ((0, [-100.0, -150.0]), (1, [-500.0, -100.0])):
        out = module.folder(goal, seed, tmp_path / "runs")
        (out / "checkpoint").mkdir(parents=True)
        (out / "summary.json").write_text(json.dumps({"evaluation_returns": returns, "wall_seconds": 1.0}))
        (out / "checkpoint" / "state.json").write_text(json.dumps({"controller": "pathwise"}))
        (out / "progress.csv").write_text("trial,env_steps,return\n0,200,-900\n1,400,-150\n")
    words = ("--report", "--seeds", 0, 3, "--runs", tmp_path / "runs", "--tables", tmp_path)
    run(module, monkeypatch, *words)
    shown = (tmp_path / "tasks.md").read_text()
    assert shown == capsys.readouterr().out.rstrip("\n") + "\n"
    assert "-125, -300, failed" in shown and "**1 of 3**" in shown and "| -300 |" in shown
    rows = list(csv.DictReader((tmp_path / "tasks.csv").open()))
    assert [row["mean_return"] for row in rows] == ["-125.0", "-300.0", ""]
    assert rows[0]["first_steps"] == "400" and rows[0]["controller"] == "pathwise"
