"""Every inference method runs in the loop, swapped by one word: a smoke test of each, through the command line."""

import csv
import json

import pytest

from dynapilco.cli.main import main
from dynapilco.inference import METHODS

CART = "dynapilco/CartPoleSwingUp-v0"
TINY = (
    "--total-timesteps", "180", "--search.steps", "6", "--search.screening-steps", "4", "--search.fresh-starts", "1",
    "--rollout.total-particles", "8", "--dynamics.hidden", "10", "--policy-kwargs.hidden", "8", "--device", "cpu",
    "--no-video", "--inference-kwargs.cold-steps", "30", "--inference-kwargs.warm-steps", "20",
)  # fmt: skip


@pytest.mark.parametrize("name", list(METHODS))
def test_training_with(name, tmp_path, capsys):
    out = tmp_path / "run"
    code = main(["train", "--env-id", CART, "--inference", name, "--out", str(out), *TINY])
    assert code == 0, capsys.readouterr().err
    summary = json.loads((out / "summary.json").read_text())
    with (out / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert summary["inference"] == name
    for row in rows[1:]:
        assert 0 <= float(row["coverage_95_one_step"]) <= 1
        assert float(row["predicted_return"]) >= 0
