"""The UCI experiment on a made-up data set: the whole path, what is resumed, and the figures themselves."""

import csv
import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal

from dynapilco.core.errors import UserError

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
ROWS, SPLITS = 50, 3


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))


@pytest.fixture
def folder(tmp_path):
    """One data set: y = 10 + 5 (x0 - x1) + noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2)) * [1.0, 20.0]
    y = 10 + 5 * (x[:, 0] - x[:, 1] / 20) + 0.5 * rng.normal(size=ROWS)
    data = tmp_path / "data"
    data.mkdir()
    with (data / "toy.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x0", "x1", "y"])
        writer.writerows(np.column_stack([x, y]).tolist())
    tests = [sorted(rng.permutation(ROWS)[:10].tolist()) for _ in range(SPLITS)]
    (data / "toy.splits.json").write_text(json.dumps({"test": tests}))
    return data


@pytest.fixture
def tiny(monkeypatch):
    """Two configurations for each of two methods; one of them cannot learn anything."""
    configs = importlib.import_module("uci_parts.configs")
    good = configs.Config("good", {"members": 2, "cold_steps": 120, "learning_rate": 0.03})
    bad = configs.Config("bad", {"members": 1, "cold_steps": 1, "learning_rate": 1e-9}, likelihood="student_t")
    bad_too = configs.Config("bad", {"cold_steps": 1, "learning_rate": 1e-9})
    monkeypatch.setattr(configs, "CONFIGS", {"ensemble": [bad, good], "adam": [good, bad_too]})
    return configs


def run(monkeypatch, folder, tmp_path, *words):
    uci = importlib.import_module("uci")
    paths = ["--data-dir", folder, "--out", tmp_path / "out", "--text", tmp_path / "uci.md", "--datasets", "toy"]
    monkeypatch.setattr(sys, "argv", ["uci.py", *map(str, [*paths, *words])])
    uci.main()


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_cells_are_tuned_scored_reported_and_kept(monkeypatch, folder, tmp_path, tiny, capsys):
    run(monkeypatch, folder, tmp_path, "--methods", "deep_ensemble", "adam")
    inner, test = rows_of(tmp_path / "out/inner.csv"), rows_of(tmp_path / "out/test.csv")
    nll = {(r["method"], r["config"]): float(r["nll"]) for r in inner}
    assert nll["ensemble", "good"] < nll["ensemble", "bad"] - 0.5
    assert len(inner[0]["nll_by_split"].split()) == SPLITS  # all there are, at most five
    chosen = [r for r in test if r["method"] == "ensemble"]
    assert [(r["split"], r["config"], r["tuned"]) for r in chosen] == [(str(i), "good", "True") for i in range(SPLITS)]
    assert all(float(r["rmse"]) < 3 for r in chosen)  # the targets' standard deviation is about 7
    text = (tmp_path / "uci.md").read_text()
    assert "toy, 3 splits" in text and "untuned" not in text
    capsys.readouterr()
    before = (tmp_path / "out/test.csv").read_bytes()
    run(monkeypatch, folder, tmp_path, "--methods", "ensemble", "adam")
    assert capsys.readouterr().out.count("kept") == 2
    assert (tmp_path / "out/test.csv").read_bytes() == before


def test_other_settings_are_computed_anew_and_reproduce(monkeypatch, folder, tmp_path, tiny, capsys):
    run(monkeypatch, folder, tmp_path, "--methods", "adam")
    first = rows_of(tmp_path / "out/test.csv")
    changed = tiny.Config("good", {"members": 1, "cold_steps": 60})
    monkeypatch.setattr(tiny, "CONFIGS", {"adam": [changed]})
    run(monkeypatch, folder, tmp_path, "--methods", "adam")
    second = rows_of(tmp_path / "out/test.csv")
    assert len(second) == SPLITS and second[0]["nll"] != first[0]["nll"]
    assert "kept" not in capsys.readouterr().out
    (tmp_path / "out/test.csv").unlink()
    run(monkeypatch, folder, tmp_path, "--methods", "adam")
    assert [r["nll"] for r in rows_of(tmp_path / "out/test.csv")] == [r["nll"] for r in second]


def test_untuned_cells_take_the_first_configuration_and_say_so(monkeypatch, folder, tmp_path, tiny):
    run(monkeypatch, folder, tmp_path, "--methods", "ensemble", "--untuned")
    assert not (tmp_path / "out/inner.csv").exists()
    assert {r["config"] for r in rows_of(tmp_path / "out/test.csv")} == {"bad"}
    assert "(untuned)" in (tmp_path / "uci.md").read_text()


def test_too_many_configurations_and_unknown_data_are_refused(monkeypatch, folder, tmp_path, tiny):
    monkeypatch.setattr(tiny, "CONFIGS", {"adam": [tiny.Config(str(i)) for i in range(9)]})
    with pytest.raises(UserError, match="9 configurations"):
        run(monkeypatch, folder, tmp_path, "--methods", "adam")
    with pytest.raises(UserError, match="toy"):
        run(monkeypatch, folder, tmp_path, "--methods", "adam", "--datasets", "tony")


def test_inner_splits_never_touch_test_rows(folder):
    splits = importlib.import_module("uci_parts.splits")
    source = splits.Source(folder, "toy")
    outer, inner = source.outer(), source.inner()
    assert outer.x_train.shape == (SPLITS, 40, 2) and inner.x_train.shape == (SPLITS, 32, 2)
    assert inner.x_test.shape == (SPLITS, 8, 2)
    for r in range(SPLITS):
        held_out = set(source.table.y[source.tests[r], 0].round(6))
        numbers = splits.Source(folder, "toy")._inner(r)
        back = numbers.y_standardiser.inverse(torch.cat([numbers.y_train, numbers.y_test]).double())
        assert held_out.isdisjoint(back[:, 0].numpy().round(3)) and len(back) == 40
        seen = {round(v, 3) for v in back[:, 0].tolist()}
        assert seen == {round(v, 3) for v in np.delete(source.table.y[:, 0], source.tests[r])}
        torch.testing.assert_close(outer.y_train[r].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("content", ["[]", '{"test": []}', '{"test": [[0, 0]]}', '{"test": [[99]]}', "no json"])
def test_bad_splits_are_refused(folder, content):
    splits = importlib.import_module("uci_parts.splits")
    (folder / "toy.splits.json").write_text(content)
    with pytest.raises(UserError, match=r"toy\.splits\.json"):
        splits.Source(folder, "toy")


def test_scores_are_in_the_units_of_the_data():
    scores = importlib.import_module("uci_parts.scores")
    generator = torch.Generator().manual_seed(0)
    unit, rows = 3.0, 2000
    y = torch.randn(rows, 1, generator=generator)
    one = Normal(torch.zeros(1, rows, 1), torch.ones(1, rows, 1))
    found = scores.score(one, y, unit, generator)
    expected = float(-stats.norm(0, unit).logpdf(unit * y.numpy()).mean())
    assert found.nll == pytest.approx(expected, abs=1e-4) and found.nll_gaussian == pytest.approx(expected, abs=1e-4)
    assert found.rmse == pytest.approx(unit * float(y.square().mean().sqrt()), rel=1e-5)
    assert found.crps == pytest.approx(unit / math.sqrt(math.pi), rel=0.04)  # of a calibrated Gaussian; 4 sigma
    assert found.coverage == pytest.approx(0.95, abs=0.02)  # 4 sigma of 2,000 rows


def test_mixture_and_matched_gaussian_differ_for_two_functions():
    scores = importlib.import_module("uci_parts.scores")
    far = Normal(torch.tensor([[[-3.0]], [[3.0]]]), torch.ones(2, 1, 1))
    found = scores.score(far, torch.tensor([[3.0]]), 1.0, torch.Generator().manual_seed(0))
    mixture = 0.5 * stats.norm(-3, 1).pdf(3) + 0.5 * stats.norm(3, 1).pdf(3)
    assert found.nll == pytest.approx(-math.log(mixture), abs=1e-5)
    assert found.nll_gaussian == pytest.approx(-stats.norm(0, math.sqrt(10)).logpdf(3), abs=1e-5)


def test_a_fit_that_diverged_has_no_scores_and_is_not_chosen(monkeypatch, folder, tmp_path, tiny):
    wild = tiny.Config("wild", {"learning_rate": 1e30, "cold_steps": 60})
    fair = tiny.Config("fair", {"cold_steps": 60})
    monkeypatch.setattr(tiny, "CONFIGS", {"adam": [wild, fair]})
    run(monkeypatch, folder, tmp_path, "--methods", "adam")
    rows = {r["config"]: r for r in rows_of(tmp_path / "out/inner.csv")}
    assert rows["wild"]["diverged"] == "True" and rows["wild"]["nll"] == "nan"
    assert {r["config"] for r in rows_of(tmp_path / "out/test.csv")} == {"fair"}
    assert "diverged" in (tmp_path / "uci.md").read_text()


def test_statistics():
    statistics = importlib.import_module("uci_parts.statistics")
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    rng = np.random.default_rng(0)
    base = rng.normal(size=20)
    values = {"a": base, "b": base + 1 + 0.1 * rng.normal(size=20), "c": base + 0.01 * rng.normal(size=20)}
    tests = statistics.paired_tests(values, "a")
    gap = values["c"] - base
    assert tests["b"].difference.value == pytest.approx(1, abs=0.1) and tests["b"].t_test < 1e-6
    assert tests["c"].t_test == pytest.approx(stats.ttest_rel(values["c"], base).pvalue)  # the largest: no factor left
    assert tests["c"].wilcoxon == pytest.approx(stats.wilcoxon(gap).pvalue)
    mean = statistics.mean_of([1.0, 2.0, 3.0])
    assert (mean.value, mean.error) == (2.0, pytest.approx(1 / math.sqrt(3)))


def test_the_named_method_is_the_best_on_inner_splits_of_all_data_sets():
    statistics = importlib.import_module("uci_parts.statistics")

    def row(dataset, method, nll, diverged="False"):
        return {"dataset": dataset, "method": method, "config": "c", "nll": str(nll), "diverged": diverged}

    rows = [row("p", "a", 1.0), row("q", "a", 1.0), row("p", "b", 0.5), row("q", "b", 2.0)]
    rows += [row("p", "only p", -9.0), row("p", "b", -9.0, "True"), row("q", "a", 3.0)]
    assert statistics.named_method(rows, ["p", "q"]) == "a"
    assert statistics.named_method([], ["p"]) is None


def test_all_listed_configurations_build():
    """Names and options of every configuration are those of its method, prior and likelihood."""
    configs, scores = importlib.import_module("uci_parts.configs"), importlib.import_module("uci_parts.scores")
    from dynapilco.inference import METHODS, make_method

    for method in METHODS:
        for dataset in ("boston", "power"):
            listed = configs.configs_of(method, dataset)
            assert 1 <= len(listed) <= configs.MOST and len({c.name for c in listed}) == len(listed)
            for config in listed:
                settings = config.settings(method, dataset)
                model = scores.make_model(settings, 4, torch.Generator().manual_seed(0))
                make_method(settings["method"], settings["options"]).check(model)
