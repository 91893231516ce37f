"""The page about one's own environment, followed to the letter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "your-own-environment.md"


@pytest.fixture
def folder(tmp_path):
    code = re.search(r"<!-- tank.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    (tmp_path / "tank.py").write_text(code)
    return tmp_path


def dynapilco(folder, *words):
    path = os.pathsep.join([".", str(ROOT), str(ROOT / "envs")])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "dynapilco", *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_understood_of_it_is_listed(folder):
    out = dynapilco(folder, "list", "--env-id", "tank:me/TwoTanks-v0")
    for words in (
        "2 numbers: s0, s1",
        "u0 in [0, 1]",
        "40 steps",
        "learned from what is paid",
        "learned from what ends, as a probability",
    ):
        assert words in out, out


def test_an_environment_that_says_nothing_about_itself_trains(folder):
    words = [
        "--total-timesteps",
        "80",
        "--no-video",
        "--device",
        "cpu",
        "--search.steps",
        "6",
        "--search.screening-steps",
        "3",
        "--out",
        "out",
    ]
    out = dynapilco(folder, "train", "--env-id", "tank:me/TwoTanks-v0", *words, "--rollout.total-particles", "40")
    assert "20 fresh episodes" in out
    header, *rows = (folder / "out" / "progress.csv").read_text().splitlines()
    assert len(rows) == 2
    assert all(len(row.split(",")) == len(header.split(",")) for row in rows)


def test_known_environments_are_described(cli):
    code, out, _ = cli("list", "--env-id", "CartPole-v1")
    assert code == 0
    assert "one of 2" in out
    assert re.search(r"reward +known", out)
    assert re.search(r"end of an episode +known", out)
    code, _, err = cli("list", "--env-id", "FrozenLake-v1")
    assert code != 0
    assert "expected a Box" in err
