"""Real jobs in processes of their own, as small as they can be."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dynapilco import compare
from dynapilco.cli.main import main
from dynapilco.compare.folder import Folder, Job, held
from dynapilco.compare.pool import Pool
from dynapilco.compare.supervise import Order
from dynapilco.core.errors import UserError

ROOT = Path(__file__).parents[2]
FLAKY = '''
"""A pendulum that breaks in trial 1 of seed 1, until a file says that it is mended."""
from pathlib import Path

import gymnasium
from dynapilco.agent.context import env_seed
from dynapilco_envs.pendulum import PendulumSwingUpEnv


class Flaky(PendulumSwingUpEnv):
    broken = False

    def reset(self, *, seed=None, options=None):
        self.broken = seed == env_seed(1, "env", 1)
        return super().reset(seed=seed, options=options)

    def step(self, action):
        if self.broken and not Path("mended").exists():
            raise RuntimeError("the bearing broke\\nin two")
        return super().step(action)


gymnasium.register("me/Flaky-v0", entry_point="flaky:Flaky", max_episode_steps=40)
'''
TASK = "flaky:me/Flaky-v0"
WORDS = [
    *("compare", "--env-id", TASK, "--inference", "adam", "--seeds", "2", "--trials", "3", "--baselines", "sac"),
    *("--baseline-seeds", "1", "--jobs", "2", "--out", "out", "--inference-kwargs.cold-steps", "20"),
    *("--inference-kwargs.warm-steps", "10", "--search.steps", "4", "--search.screening-steps", "2"),
    *("--search.fresh-starts", "1", "--rollout.total-particles", "8", "--dynamics.hidden", "8"),
]


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    (tmp_path / "flaky.py").write_text(FLAKY)
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "envs")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_failed_job_is_recorded_the_rest_go_on_and_resume_runs_it_alone(flaky, capfd):
    assert main(WORDS) == 1
    out = capfd.readouterr().out
    assert "FAILED" in out and "in two" in out and "1 of 3 runs failed" in out
    runs, trials = compare.load("out")
    assert runs["method"].tolist() == ["adam", "adam", "sac"] and runs["status"].tolist() == ["done", "failed", "done"]
    assert [bool(error) for error in runs["error"]] == [False, True, False]
    assert "RuntimeError: the bearing broke in two" in runs["error"][1]
    folder, broken = Folder(Path("out")), Job(TASK, "adam", 1)
    text = folder.job_file(broken, ".error").read_text()
    assert "step raised RuntimeError: the bearing broke" in text
    assert "RuntimeError: the bearing broke" in folder.job_file(broken, ".log").read_text()
    assert trials.groupby(["method", "seed"]).size().tolist() == [3, 1, 3]
    assert (runs["peak_memory_mb"].dropna() > 100).all() and (runs["peak_memory_mb"].dropna() < 5_000).all()
    _check_baseline(folder, runs, trials)
    done = {p: p.stat().st_mtime_ns for p in Path("out/runs").rglob("summary.json")}
    assert len(done) == 2

    Path("mended").touch()
    assert main(["compare", "--resume", "--out", "out"]) == 0
    assert "2 of 3 jobs are done already" in capfd.readouterr().out
    runs, after = compare.load("out")
    assert runs["status"].tolist() == ["done"] * 3 and runs["error"].tolist() == [""] * 3
    assert {p: p.stat().st_mtime_ns for p in done} == done
    first = after[(after["method"] == "adam") & (after["seed"] == 1)]
    assert first["trial"].tolist() == [0, 1, 2]
    assert first["return"].iloc[0] == trials[(trials["method"] == "adam") & (trials["seed"] == 1)]["return"].iloc[0]
    commands = (folder.run_dir(broken) / "command.txt").read_text().splitlines()
    assert "--seed 1" in commands[0] and "--resume" in commands[1]
    assert not folder.job_file(broken, ".error").exists()


def _check_baseline(folder, runs, trials):
    """The baseline ran the same number of steps, and is written down as our own runs are."""
    run_dir = folder.run_dir(Job(TASK, "sac", 0, baseline=True))
    config = json.loads((run_dir / "config.json").read_text())
    assert (config["algorithm"], config["total_timesteps"], config["options"]["learning_starts"]) == ("sac", 120, 100)
    assert (run_dir / "policy.safetensors").stat().st_size > 1000
    summary = json.loads((run_dir / "summary.json").read_text())
    assert len(summary["evaluation_returns"]) == 20
    assert runs["score"][2] == np.mean(summary["evaluation_returns"])
    assert runs["env_steps"].tolist()[::2] == [120, 120]
    own, sac = (trials[(trials["method"] == m) & (trials["seed"] == 0)] for m in ("adam", "sac"))
    assert sac["env_steps"].tolist() == own["env_steps"].tolist() == [40, 80, 120]
    assert sac["explored"].tolist() == [True, True, False]  # SAC acts at random for 100 steps
    assert sac["success"].tolist() == [False] * 3 and sac["coverage_95_one_step"].isna().all()


def test_a_baseline_starts_its_trials_where_an_agent_does():
    from dynapilco.agent.context import env_seed
    from dynapilco.compare.recorder import Recorder
    from dynapilco.tasks import make_env, task_of

    env, rows = make_env("dynapilco/PendulumSwingUp-v0"), []
    recorder = Recorder(env, task_of(env), 7, 0, rows.append)
    for trial in range(2):
        start = recorder.reset(seed=99)[0]
        again = make_env("dynapilco/PendulumSwingUp-v0").reset(seed=env_seed(7, "env", trial))[0]
        assert np.array_equal(start, again)
        rewards = [recorder.step(np.array([1.0], np.float32))[1] for _ in range(40)]
        assert rows[-1].ret == pytest.approx(sum(rewards), rel=1e-6)
    assert [(r.trial, r.env_steps, r.env_seconds, r.success) for r in rows] == [(0, 40, 4, False), (1, 80, 8, False)]


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "td3", "dqn"])
def test_every_kind_of_baseline_keeps_to_its_budget(algorithm, tmp_path):
    from dynapilco.compare.baseline import BaselineRun, train_baseline

    task = "CartPole-v1" if algorithm == "dqn" else "dynapilco/PendulumSwingUp-v0"
    run = BaselineRun(algorithm, algorithm, {}, task, {}, 100, tmp_path, 3)
    train_baseline(run)
    config = json.loads((tmp_path / "config.json").read_text())
    steps = int((tmp_path / "progress.csv").read_text().splitlines()[-1].split(",")[1])
    assert 80 <= steps <= 100
    if algorithm == "ppo":  # its rollouts of 2048 steps would never end
        assert config["options"] == {"n_steps": 40, "batch_size": 40}
    if algorithm in ("td3", "dqn"):  # nor would their random steps, 100 by default
        assert config["options"]["learning_starts"] == (40 if algorithm == "td3" else 50)


def order(folder):
    return Order(Job("dynapilco/PendulumSwingUp-v0", "adam", 0), str(folder), str(ROOT), {})


def test_a_lost_worker_is_replaced_and_in_the_end_given_up(tmp_path, monkeypatch):
    said, rounds = [], []

    def lost(self, orders):
        rounds.append(len(orders))
        raise OSError("node 7 is gone\nsomewhere")

    monkeypatch.setattr(Pool, "_round", lost)
    with pytest.raises(OSError, match="node 7"):
        Pool().run([order(tmp_path)], said.append)
    assert (
        rounds == [1, 1, 1] and said == ["a worker was lost (OSError: node 7 is gone); 1 jobs are handed out again"] * 2
    )


def test_a_lock_is_waited_for_and_ends_with_its_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from dynapilco.compare.folder import held\n"
        "with held(Path(sys.argv[1]), 0, 'no'): print('held', flush=True); time.sleep(60)"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "envs")])
    environment = {**os.environ, "PYTHONPATH": path}
    words = [sys.executable, "-c", code, str(tmp_path / "lock")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="busy"), held(tmp_path / "lock", 0.3, "busy"):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    began = time.monotonic()
    with held(tmp_path / "lock", 5, "busy"):
        assert time.monotonic() - began < 4


def test_a_worker_that_only_watches_imports_nothing_heavy():
    code = "import sys, dynapilco.compare.supervise; sys.exit(bool({'torch', 'pandas', 'joblib'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "envs")])}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
