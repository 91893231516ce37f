import json

import pytest

from dynapilco.tracking.summary import build_summary, read_summary, write_summary


def summary(make, successes=(True,) * 18 + (False,) * 2, rows=4, **kwargs):
    values = {"delivered_trial": 3, "wall_seconds": 12.5, **kwargs}
    return build_summary(
        make.config, [make.row(i) for i in range(rows)], [1.0] * 20, successes, **values
    )  # fmt: skip


@pytest.mark.parametrize(("good", "solved"), [(20, True), (18, True), (17, False), (0, False)])
def test_solved_means_nine_of_ten(make, good, solved):
    found = summary(make, [True] * good + [False] * (20 - good))
    assert found["solved"] is solved
    assert found["success_rate"] == good / 20


def test_without_a_success_rule_there_is_no_verdict(make):
    found = summary(make, None)
    assert found["solved"] is None
    assert found["success_rate"] is None


def test_first_success(make):
    found = summary(make)
    assert found["first_success_trial"] == 2
    assert found["env_seconds_to_success"] == make.row(2).env_seconds
    assert summary(make, rows=2)["first_success_trial"] is None
    assert summary(make, rows=2)["env_seconds_to_success"] is None


def test_totals_and_versions(make):
    found = summary(make)
    assert (found["trials"], found["nan_rollouts"], found["delivered_trial"]) == (4, 1 + 2 + 3, 3)
    assert (found["seed"], found["env_id"], found["inference"]) == tuple(
        make.config[k] for k in ("seed", "env_id", "inference")
    )
    assert set(found["versions"]) == {
        "python",
        "torch",
        "numpy",
        "gymnasium",
        "stable_baselines3",
        "dynapilco",
    }
    assert "unknown" not in found["versions"].values()


def test_file_is_strict_json(tmp_path, make):
    write_summary(tmp_path, {**summary(make), "evaluation_returns": [float("nan"), 1.0]})
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["evaluation_returns"] == [None, 1.0]
    assert read_summary(tmp_path)["trials"] == 4


def test_a_broken_or_missing_summary_reads_as_none(tmp_path):
    assert read_summary(tmp_path) is None
    (tmp_path / "summary.json").write_text('{"trials": 4')
    assert read_summary(tmp_path) is None
