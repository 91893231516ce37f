"""Every mistake gets one line on stderr, exit code 2, and leaves the disk as it was. With the real agent."""

import json
import os
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("real_agent")

CONFIGS = {
    "broken.toml": 'seed = 1\nenv_id = "a\n',
    "unknown.toml": "sed = 1\n",
    "nested.toml": "[search]\nstep = 3\n",
    "type.toml": 'total_timesteps = "many"\n',
    "bool.toml": "seed = true\n",
    "list.toml": '[dynamics]\nhidden = [64, "x"]\n',
    "scalar.toml": "[dynamics]\nhidden = 64\n",
    "section.toml": "search = 3\n",
    "option.toml": "[inference_kwargs]\nmember = 3\n",
    "option_type.toml": '[inference_kwargs]\nmembers = "ten"\n',
}

TRAIN_ERRORS = {
    ("--env-id", "dynapilco/CartPoleSwingUp-v1"): "did you mean dynapilco/CartPoleSwingUp-v0",
    ("--env-id", "Nonsense"): "Nonsense",
    ("--env-id", "no_such_module:A-v0"): "no_such_module",
    ("--env-id", "FrozenLake-v1"): "observation space Discrete",
    ("--env-id", "Blackjack-v1"): "Blackjack-v1",
    ("--inference", "ensembel"): "did you mean ensemble",
    ("--policy", "mpl"): "did you mean mlp",
    ("--rollout.propagation", "moment"): "moment_matching",
    ("--exploration.kind", "sinus"): "did you mean sinusoid",
    ("--inference-kwargs.memberz", "3"): "--inference-kwargs.members",
    ("--inference-kwargs.scale", "0.5"): "--inference-kwargs.spread",
    ("--inference-kwargs.members", "0"): "members=0: expected at least 1",
    ("--policy-kwargs.units", "3"): "--policy-kwargs.hidden",
    ("--env-kwargs.fraction", "3"): "fraction",
    ("--env-kwargs.friction",): "expected a value",
    ("--total-timesteps", "0"): "total_timesteps=0: expected at least 1",
    ("--total-timesteps", "1e3"): "'1e3' is not an integer",
    ("--search.learning-rate", "fast"): "'fast' is not a number",
    ("--seed",): "--seed",
    ("--seed", "-1"): "seed=-1: expected 0 or more",
    ("--sed", "1"): "did you mean --seed",
    ("--steps", "1"): "--search.steps",
    ("--threads", "0"): "threads=0: expected at least 1",
    ("--device", "cuda:77"): "device='cuda:77'",
    ("--device", "gpu"): "device='gpu'",
    ("stray",): "stray",
    ("--config", "missing.toml"): "cannot read 'missing.toml'",
    ("--config", "broken.toml"): "line 2",
    ("--config", "unknown.toml"): "unknown setting 'sed': did you mean seed",
    ("--config", "nested.toml"): "did you mean search.steps",
    ("--config", "type.toml"): "total_timesteps='many': expected an integer",
    ("--config", "bool.toml"): "seed=True: expected an integer",
    ("--config", "list.toml"): "dynamics.hidden[1]='x': expected an integer",
    ("--config", "scalar.toml"): "dynamics.hidden=64: expected a list of integers",
    ("--config", "section.toml"): "search=3: expected a table",
    ("--config", "option.toml"): "did you mean members",
    ("--config", "option_type.toml"): "members='ten': expected an integer",
    ("--out", "full"): "exists and is not empty",
    ("--resume", "nowhere"): "holds no config.toml",
    ("--resume", "full"): "holds no config.toml",
}


def snapshot():
    return {str(p): p.read_bytes() if p.is_file() else None for p in Path().rglob("*")}


def assert_refused(result, said, before):
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert err.startswith("dynapilco: error: ")
    assert said in err
    assert "Traceback" not in err
    assert snapshot() == before


@pytest.fixture
def disk():
    for name, text in CONFIGS.items():
        Path(name).write_text(text)
    Path("full").mkdir()
    Path("full/precious").write_text("do not touch")
    return snapshot()


@pytest.mark.parametrize(
    ("words", "said"), TRAIN_ERRORS.items(), ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_train(cli, disk, words, said):
    assert_refused(cli("train", *words), said, disk)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "nowhere"), "does not exist"),
        (("evaluate", "full"), "'full'"),
        (("evaluate", "full", "--episodes", "0"), "episodes=0: expected at least 1"),
        (("evaluate", "full", "--episode", "3"), "did you mean --episodes"),
        (("evaluate",), "RUN"),
        (("list", "--all"), "unknown option --all"),
        (("list", "--inference", "mc_dropuot"), "did you mean mc_dropout"),
        (("trian",), "did you mean train"),
    ],
)
def test_other_commands(cli, disk, words, said):
    code, out, err = cli(*words)
    assert_refused((code, out, err.replace("PATH", "RUN_DIR").replace("run-dir", "RUN")), said, disk)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A real, tiny run; made once, copied by each test."""
    from dynapilco.cli.main import main

    folder = tmp_path_factory.mktemp("runs")
    words = ["train", "--env-id", "dynapilco/PendulumSwingUp-v0", "--total-timesteps", "80", "--no-video"]
    words += ["--inference-kwargs.members", "2", "--inference-kwargs.cold-steps", "2", "--search.steps", "2"]
    words += ["--search.screening-steps", "1", "--rollout.total-particles", "4", "--out", str(folder / "run")]
    assert main(words) == 0
    return folder / "run"


def damage_tensors(run):
    (file,) = (run / "checkpoint").glob("*.safetensors")
    os.truncate(file, file.stat().st_size // 2)


def damage_state(run):
    os.truncate(run / "checkpoint" / "state.json", 100)


def edit_state(change):
    def edit(run):
        path = run / "checkpoint" / "state.json"
        state = json.loads(path.read_text())
        change(state)
        path.write_text(json.dumps(state))

    return edit


DAMAGES = {
    "tensors cut": (damage_tensors, "truncated or damaged"),
    "state cut": (damage_state, "truncated or damaged"),
    "other format": (edit_state(lambda s: s.update(format_version=999)), "format version 999"),
    "other environment": (edit_state(lambda s: s["environment"].update(horizon=7)), "another environment"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoint"), "no finished trial"),
}


@pytest.mark.parametrize("command", [("evaluate",), ("train", "--total-timesteps", "800", "--resume")])
@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_checkpoints(cli, finished_run, command, name):
    damage, said = DAMAGES[name]
    shutil.copytree(finished_run, "run")
    damage(Path("run"))
    assert_refused(cli(*command, "run"), said, snapshot())


def test_real_run_evaluates_and_goes_on(cli, finished_run):
    shutil.copytree(finished_run, "run")
    before = snapshot()
    code, out, err = cli("evaluate", "run", "--episodes", "3")
    assert (code, err) == (0, "")
    assert "mean return" in out
    assert snapshot() == before
    assert cli("train", "--resume", "run")[1].startswith("run 'run' is already complete: 2 trials")
    code, out, err = cli("train", "--resume", "run", "--total-timesteps", "81", "--no-video")
    assert code == 0, err
    assert len(Path("run/progress.csv").read_text().splitlines()) == 4
    assert json.loads(Path("run/summary.json").read_text())["trials"] == 3
