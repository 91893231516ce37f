import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from dynapilco.agent.config import AgentConfig
from dynapilco.agent.config_file import build_config
from dynapilco.cli.options import _one_sentence
from dynapilco.cli.statistics import mean_interval, wilson_interval
from dynapilco.inference import METHODS
from dynapilco.policies import POLICIES

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.toml"


def test_quick_start_holds_fields_of_the_configuration():
    values = tomllib.loads(QUICKSTART.read_text())
    config = build_config(values)
    assert (config.env_id, config.inference, config.total_timesteps) == (
        "dynapilco/CartPoleSwingUp-v0", "random_features", 360,
    )  # fmt: skip


def test_list_explains_every_registered_name(cli):
    code, out, err = cli("list")
    assert (code, err) == (0, "")
    names = [
        *METHODS,
        *POLICIES,
        "tsinf",
        "moment_matching",
        "multisine",
        "sinusoid",
        "random",
        "dynapilco/PendulumSwingUp-v0",
    ]
    for name in names:
        assert re.search(rf"^  {re.escape(name)}(, \w+)* +\S+ \S+", out, re.MULTILINE), name


def test_list_shows_what_a_method_takes(cli):
    code, out, err = cli("list", "--inference", "mc_dropout")
    assert (code, err) == (0, "")
    assert "mc_dropout, with its default options" in out
    for line in (
        "architectures",
        "  TransformerEncoder +yes",
        "priors",
        "  normal +yes",
        "likelihoods",
        "  gaussian +yes",
    ):
        assert re.search(f"^{line}", out, re.MULTILINE), line


@pytest.mark.parametrize("method", list(METHODS))
def test_help_has_a_sentence_and_a_default_for_every_option(cli, method):
    code, out, _ = cli("train", "--inference", method, "--help")
    assert code == 0
    assert "examples:" in out
    text = " ".join(out.replace("│", " ").split())
    options = METHODS[method]()
    names = [f.name for f in fields(options) if not isinstance(getattr(options, f.name), Mapping)]  # from files
    nested = [f"inference-kwargs.{name}" for name in names]
    flat = [
        "env-id",
        "seed",
        "config",
        "out",
        "resume",
        "threads",
        "search.steps",
        "dynamics.hidden",
        *nested,
    ]
    for name in flat:
        option = f"--{name.replace('_', '-')}"
        assert re.search(
            rf"{re.escape(option)}( [A-Z\[{{][^ ]*\S*| \[INT \.\.\.\]\])*[, ].{{12,400}}?\(default: ", text
        ), name
    assert not re.search(r"(STR|INT|FLOAT|\]\]) \(default", text), "an option without a sentence"


def test_help_knows_all_settings(cli):
    _, out, _ = cli("train", "--help")
    for f in fields(AgentConfig):
        assert f"--{f.name.replace('_', '-')}" in out


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_top_level_help(cli, words):
    code, out, err = cli(*words)
    assert (code, err) == (0, "")
    for word in ("train", "evaluate", "list", "examples:"):
        assert word in out


def test_top_level_help_imports_neither_torch_nor_wandb():
    code = (
        "import sys; from dynapilco.cli.main import main; main(['--help']);"
        "sys.exit(', '.join({'torch', 'wandb', 'stable_baselines3', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_options_are_refused_before_the_agent_is_imported():
    code = (
        "import sys; from dynapilco.cli.main import main; assert main(['train', '--sed', '1']) == 2;"
        "sys.exit(', '.join({'wandb', 'stable_baselines3', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    found = subprocess.run(
        [sys.executable, "-m", "dynapilco", "--version"], capture_output=True, text=True, check=False
    )
    assert found.stdout.startswith("dynapilco ")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


BOXES = (
    "╭─ Title ─╮\n│ a wrapped │\n│ line      │\n│ ───────── │\n│ more      │\n╰───────────╯",
    " Title    \n ---------- \n  a wrapped \n  line      \n  --------- \n  more      \n             ",
)


@pytest.mark.parametrize("box", BOXES)
def test_boxes_become_a_sentence(box):
    assert _one_sentence(box, "prog") == "a wrapped line (see prog --help)"


def test_evaluate_prints_intervals_and_writes_nothing(cli, fake_agent):
    cli("train", "--total-timesteps", "180", "--out", "a", "--no-video")
    before = {p: p.stat().st_mtime_ns for p in Path("a").rglob("*")}
    code, out, err = cli("evaluate", "a", "--episodes", "20")
    assert (code, err) == (0, "")
    assert "policy of trial 2, 20 fresh episodes" in out
    assert "0.95" in out
    assert "19/20" in out
    assert "76 % to 99 %" in out
    assert {p: p.stat().st_mtime_ns for p in Path("a").rglob("*")} == before


def test_wilson_interval_against_tabulated_values():
    """Newcombe 1998, Statistics in Medicine 17, table I: 81/263 and 0/20."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(29, 29)[1] == 1.0


def test_mean_interval():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    assert mean_interval([5.0])[1] != mean_interval([5.0])[1]
