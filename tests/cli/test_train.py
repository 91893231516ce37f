import csv
import json
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from dynapilco.agent.config import AgentConfig
from dynapilco.agent.config_file import build_config
from dynapilco.cli.train import _verdict

pytestmark = pytest.mark.usefixtures("fake_agent")


def rows(run_dir):
    with (run_dir / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_leaves_everything_behind(cli):
    code, out, err = cli("train", "--total-timesteps", 180)
    (run_dir,) = Path("runs").iterdir()
    assert (code, err) == (0, "")
    assert run_dir.name.startswith("dynapilco-CartPoleSwingUp-v0__random_features__s0__2")
    assert {name for name in files(run_dir) if not name.endswith(".safetensors")} == {
        "checkpoint/state.json", "command.txt", "config.toml", "events.jsonl", "progress.csv", "summary.json",
        "videos/trial-02.mp4", "figures/learning_curve.png",
        "figures/trial-01-prediction.png", "figures/trial-02-prediction.png",
        "fans/trial-001.json", "fans/trial-002.json",
    }  # fmt: skip
    assert (run_dir / "command.txt").read_text() == "dynapilco train --total-timesteps 180\n"
    assert out.splitlines()[-1] == (
        f"solved: 19/20 fresh episodes succeed with the policy of trial 2; files in {run_dir}"
    )
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["solved"], summary["success_rate"], summary["trials"]) == (True, 0.95, 3)
    assert (summary["first_success_trial"], summary["env_seconds_to_success"]) == (2, 9.0)
    assert summary["wall_seconds"] > 0


def test_without_a_success_rule_the_mean_return_is_told(cli, fake_agent):
    fake_agent.success_rule = False
    _, out, _ = cli("train", "--total-timesteps", 60, "--out", "x", "--no-video")
    assert out.splitlines()[-1] == (
        "mean return 0.95 in 20 fresh episodes with an untrained policy (there was no policy trial); files in x"
    )
    assert not Path("x/videos").exists()


@pytest.mark.parametrize(("explored", "said"), [(85.5, True), (0.5, False)])
def test_a_policy_below_exploration_is_called_so(explored, said):
    result = SimpleNamespace(returns=[16.0, 17.0], successes=None)
    rows = [SimpleNamespace(ret=explored, explored=True, ended_by="time limit")]
    text = _verdict({"solved": None}, result, "the policy of trial 2", rows)
    assert text.startswith("mean return 16.50 in 2 fresh episodes with the policy of trial 2")
    assert ("worse than an exploration trial (85.50)" in text and "--controller evolution" in text) == said


def test_the_written_config_runs_again_as_it_is(cli):
    nested = ["--search.steps", 300, "--dynamics.hidden", 32, 16, "--inference-kwargs.members", 3]
    nested += ["--policy-kwargs.hidden", 7, "--env-kwargs.friction", 0.25, "--exploration.kind", "random"]
    assert cli("train", "--total-timesteps", 60, "--seed", 5, "--out", "a", *nested)[0] == 0
    assert cli("train", "--config", "a/config.toml", "--out", "b")[0] == 0
    assert Path("a/config.toml").read_bytes() == Path("b/config.toml").read_bytes()
    config = build_config(tomllib.loads(Path("a/config.toml").read_text()))
    assert (config.seed, config.search.steps, config.dynamics.hidden) == (5, 300, (32, 16))
    assert (config.inference_kwargs["members"], config.policy_kwargs["hidden"]) == (3, (7,))
    assert (config.env_kwargs, config.exploration.kind) == ({"friction": 0.25}, "random")


def test_the_command_line_overrides_the_file(cli):
    Path("c.toml").write_text(
        "seed = 3\ntotal_timesteps = 60\n[search]\nsteps = 250\n[inference_kwargs]\nmembers = 4\n"
    )
    assert cli("train", "--config", "c.toml", "--seed", 4, "--out", "a", "--no-video")[0] == 0
    config = build_config(tomllib.loads(Path("a/config.toml").read_text()))
    assert (config.seed, config.search.steps, config.inference_kwargs["members"]) == (4, 250, 4)


def test_another_method_leaves_the_options_of_the_file_out_and_says_so(cli):
    Path("c.toml").write_text("total_timesteps = 60\n[inference_kwargs]\nmembers = 4\n")
    code, out, _ = cli("train", "--config", "c.toml", "--inference", "dropout", "--out", "a", "--no-video")
    assert code == 0
    assert "inference_kwargs of the file belong to 'random_features'" in out
    assert build_config(tomllib.loads(Path("a/config.toml").read_text())).inference == "mc_dropout"


def test_interrupted_resumed_and_finished(cli, fake_agent):
    fake_agent.stop_in_trial = 2
    code, _, err = cli("train", "--total-timesteps", 300, "--out", "a b")
    assert code == 130
    assert err == (
        "interrupted: the checkpoint of trial 1 is in a b/checkpoint; go on with: dynapilco train --resume 'a b'\n"
    )
    assert not Path("a b/summary.json").exists()
    with Path("a b/progress.csv").open("a") as file:  # as if a later trial had been written, but not its checkpoint
        file.write("2,999,,,,,,,,,,,\n")
    fake_agent.stop_in_trial = None
    code, _, err = cli("train", "--resume", "a b")
    assert (code, err) == (0, "")
    assert [(r["trial"], r["env_steps"]) for r in rows(Path("a b"))] == [(str(i), str(60 * i + 60)) for i in range(5)]
    assert fake_agent.started == 3 + 3
    assert json.loads(Path("a b/summary.json").read_text())["trials"] == 5
    assert Path("a b/command.txt").read_text().splitlines()[1] == "dynapilco train --resume 'a b'"


def test_resuming_a_complete_run_says_so_and_changes_nothing(cli):
    cli("train", "--total-timesteps", 120, "--out", "a", "--no-video")
    before = files(Path("a"))
    code, out, _ = cli("train", "--resume", "a")
    assert code == 0
    assert "already complete: 2 trials, 120 environment steps" in out
    assert files(Path("a")) == before


def test_a_complete_run_goes_on_with_more_steps(cli, fake_agent):
    cli("train", "--total-timesteps", 120, "--out", "a", "--no-video")
    assert cli("train", "--resume", "a", "--total-timesteps", 240, "--no-video")[0] == 0
    assert len(rows(Path("a"))) == 4
    assert fake_agent.started == 4
    assert build_config(tomllib.loads(Path("a/config.toml").read_text())).total_timesteps == 240


def test_a_run_stopped_before_its_evaluation_is_evaluated(cli, fake_agent):
    cli("train", "--total-timesteps", 120, "--out", "a", "--no-video")
    Path("a/summary.json").unlink()
    assert cli("train", "--resume", "a")[0] == 0
    assert fake_agent.started == 2
    assert Path("a/summary.json").exists()


def test_interrupted_before_the_first_trial(cli, fake_agent):
    fake_agent.stop_in_trial = 0
    code, _, err = cli("train", "--total-timesteps", 120, "--out", "a", "--no-video")
    assert code == 130
    assert err == (
        "interrupted before the first trial was finished: no checkpoint yet; start again with: "
        "dynapilco train --resume a\n"
    )
    fake_agent.stop_in_trial = None
    assert cli("train", "--resume", "a", "--no-video")[0] == 0
    assert len(rows(Path("a"))) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "1"], "seed=1 contradicts"),
        (["--search.steps", "301"], "search.steps=301 contradicts"),
        (["--inference", "dropout"], "inference='mc_dropout' contradicts"),
        (["--inference-kwargs.members", "2"], "inference_kwargs.members=2 contradicts"),
        (["--env-kwargs.friction", "1.0"], "env_kwargs.friction=1.0 contradicts"),
        (["--out", "elsewhere"], "out='elsewhere' contradicts"),
    ],
)
def test_resume_refuses_another_configuration(cli, fake_agent, words, said):
    fake_agent.stop_in_trial = 1
    cli("train", "--total-timesteps", 180, "--out", "a", "--no-video")
    before = files(Path())
    code, out, err = cli("train", "--resume", "a", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert files(Path()) == before


def test_resume_accepts_what_repeats_the_configuration(cli, fake_agent):
    fake_agent.stop_in_trial = 1
    cli("train", "--total-timesteps", 120, "--out", "a", "--no-video", "--policy", "mlp")
    fake_agent.stop_in_trial = None
    words = ["--seed", 0, "--policy", "mlp", "--out", "./a", "--threads", 1, "--config", "a/config.toml"]
    assert cli("train", "--resume", "a", "--no-video", *words)[0] == 0


def test_a_checkpoint_of_another_run_is_refused(cli, fake_agent):
    cli("train", "--total-timesteps", 120, "--out", "a", "--no-video")
    text = Path("a/config.toml").read_text()
    Path("a/config.toml").write_text(text.replace("CartPoleSwingUp-v0", "PendulumSwingUp-v0"))
    code, _, err = cli("train", "--resume", "a", "--total-timesteps", 240)
    assert code == 2
    assert "its env_id is 'dynapilco/CartPoleSwingUp-v0'" in err


def test_an_environment_that_cannot_be_drawn_is_trained_without_video(cli):
    code, out, _ = cli("train", "--env-id", "tests_no_picture/A-v0", "--total-timesteps", 60, "--out", "a")
    assert code == 0
    assert "no video: " in out


@pytest.fixture(autouse=True)
def _no_picture():
    import gymnasium

    from dynapilco_envs.pendulum import PendulumSwingUpEnv

    class Blind(PendulumSwingUpEnv):
        def render(self):
            raise RuntimeError("no display")

    gymnasium.register("tests_no_picture/A-v0", Blind, max_episode_steps=60)
    yield
    del gymnasium.registry["tests_no_picture/A-v0"]


def test_every_field_survives_the_file(tmp_path):
    import tomli_w

    from dynapilco.agent.config_file import config_values

    changed = {
        "env_kwargs": {"friction": 0.5, "sensor_noise_std": [0.1, 0.2]}, "policy": "RbfPolicy", "seed": 9,
        "policy_kwargs": {"units": 3, "width": 0.3}, "inference": "ensemble", "device": "cpu",
        "total_timesteps": 7,
        "inference_kwargs": {"members": 2, "learning_rate": 1 / 3}, "env_id": "dynapilco/PendulumSwingUp-v0",
        "exploration": {"trials": 2}, "dynamics": {"hidden": [5], "noise_floor": 0.1},
        "rollout": {"draws": 3}, "search": {"steps": 200, "clip_norm": 1e-3}, "controller": "icem",
        "planning": {"horizon": 9}, "evolution": {"population": 8},
        "controller_kwargs": {}, "imagination": {"num_envs": 3}, "on_env_error": "continue",
        "on_disagreement": "stop", "history": 2, "angles": "0,1 2,3,4",
    }  # fmt: skip
    assert set(changed) == set(AgentConfig.__dataclass_fields__)
    config = build_config(changed)
    again = build_config(tomllib.loads(tomli_w.dumps(config_values(config))))
    assert again == config
    assert again != build_config({})
    assert again.dynamics.hidden == (5,)
    assert again.inference_kwargs["learning_rate"] == 1 / 3
