"""The sweep file of the docs, as far as it can be checked without W&B's server."""

from pathlib import Path

import pytest

from dynapilco.cli.train_options import parse_train

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
SWEEP = yaml.safe_load((ROOT / "experiments" / "sweep.yaml").read_text())


def choices(parameter):
    """The extremes of a parameter."""
    if "value" in parameter:
        return [parameter["value"]]
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def command_line(pick):
    """What the agent runs; the arguments are made by wandb's own function."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    values = {name: {"value": choices(parameter)[pick]} for name, parameter in SWEEP["parameters"].items()}
    variables = utils.create_sweep_command_args({"args": values})
    variables |= {"env": ["/usr/bin/env"], "program": [SWEEP["program"]]}
    words = []
    for word in utils.create_sweep_command(SWEEP["command"]):
        words += variables[word[2:-1]] if word.startswith("${") else [word]
    return words, {name: value["value"] for name, value in values.items()}


@pytest.mark.parametrize("pick", [0, -1])
def test_the_command_of_an_agent_is_understood(pick, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    words, values = command_line(pick)
    assert words[:3] == ["/usr/bin/env", "dynapilco", "train"]
    plan = parse_train(words[3:])
    assert plan.run.track and not plan.run.video
    for name, value in values.items():
        found = plan.config
        for part in name.split("."):
            found = getattr(found, part)
        assert found == value, name


def test_the_metric_is_one_that_a_run_writes_into_its_summary():
    from dynapilco.tracking.summary import build_summary

    config = {"env_id": "a", "inference": "b", "seed": 0}
    summary = build_summary(config, [], [1.0], [True], delivered_trial=None, wall_seconds=1.0)
    assert summary[SWEEP["metric"]["name"]] == 1.0


def test_seeds_are_tuning_seeds():
    assert min(SWEEP["parameters"]["seed"]["values"]) >= 1000
