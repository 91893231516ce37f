import csv
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from dynapilco import report
from dynapilco.compare.stats import statistics
from dynapilco.core.errors import UserError
from dynapilco.report.charts.paper import chart_figure
from dynapilco.report.page.frame import render
from dynapilco.report.reading.comparison import LATER_COLUMNS, RUN_COLUMNS, TRIAL_COLUMNS
from dynapilco.report.writing import build

from .parsing import Parsed
from .synthetic import RUN_COLUMNS as WRITTEN_RUNS
from .synthetic import TASKS, make_comparison
from .synthetic import TRIAL_COLUMNS as WRITTEN_TRIALS

METHODS = ("ensemble", "mc_dropout", "sac")


def page_of(folder):
    return Parsed(render(build(folder)))


def charts_of(page):
    return {chart["name"]: chart for chart in page.data("charts")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from .conftest import make_run

    path = tmp_path_factory.mktemp("comparison") / "study"
    return make_comparison(path, methods=METHODS, make_run=make_run, failed=[(TASKS[1], "mc_dropout", 2)])


@pytest.fixture(scope="module")
def page(folder):
    return page_of(folder)


@pytest.fixture(scope="module")
def expected(folder):
    """The statistics, from the same files read by pandas."""
    runs, trials = pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "trials.csv")
    return statistics(runs, trials.astype({"success": "boolean"}), unbalanced=True, different_budgets=True)


def test_the_columns_are_those_of_the_runner():
    from dynapilco.compare import tables

    assert list(RUN_COLUMNS) == list(tables.RUN_COLUMNS) == list(WRITTEN_RUNS)
    assert {*TRIAL_COLUMNS, *LATER_COLUMNS} == set(tables.TRIAL_COLUMNS)
    assert set(TRIAL_COLUMNS) == set(WRITTEN_TRIALS) and tuple(LATER_COLUMNS) == tables.LATER  # older tables are read


def test_the_answer_is_that_of_the_statistics(page, expected):
    assert page.errors == []
    assert page.seen.index(expected.sentences[0]) < page.seen.index("IQM of the score")
    for sentence in expected.sentences:
        assert sentence in page.seen
    row = expected.aggregates.query("task == @TASKS[0] and method == 'ensemble' and metric == 'score'").iloc[0]
    assert row["statistic"] == "iqm" and f"{row['estimate']:.2f}" in page.seen
    assert "5, 1 failed" in page.seen and "14 of 15" not in page.seen
    assert "29 of 30 runs came to their end, 1 failed." in page.seen and "ValueError: <b>bad</b>" in page.seen


def test_charts_draw_the_tables_of_the_statistics(page, expected):
    charts = charts_of(page)
    success = expected.success.query("task == @TASKS[0] and method == 'ensemble'")
    drawn = charts["success-cartpoleswingup-v0"]["series"][0]
    assert drawn["name"] == "ensemble (n = 5)"
    np.testing.assert_allclose([drawn["y"], drawn["low"], drawn["high"]], success[["rate", "low", "high"]].T)
    curve = expected.curves.query("task == @TASKS[1] and method == 'sac' and metric == 'return'")
    drawn = charts["return-by-steps-pendulumswingup-v0"]["series"][2]
    np.testing.assert_allclose([drawn["x"], drawn["y"]], curve[["env_steps", "estimate"]].T)
    survival = charts["survival-cartpoleswingup-v0"]["series"][0]
    assert (survival["x"][0], survival["y"][0]) == (0, 1)
    np.testing.assert_allclose(
        survival["y"][1:], expected.survival.query("task == @TASKS[0] and method == 'ensemble'")["not_yet"]
    )
    pairs = charts["improvement-all-tasks"]
    assert all(value >= 0.5 for value in pairs["series"][0]["x"])
    shown = expected.pairwise.query("task == 'all tasks'")
    stars = sum(name.endswith(" *") for name in pairs["y"]["categories"])
    assert stars == (shown["verdict"] != "no difference shown").sum()


def test_calibration_and_cost_are_medians_over_seeds(folder, page):
    with (folder / "trials.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["task"] == TASKS[0] and r["method"] == "ensemble"]
    values = [float(r["coverage_95_one_step"]) for r in rows if r["trial"] == "3"]
    charts = charts_of(page)
    series = charts["coverage-one-step-cartpoleswingup-v0"]["series"]
    assert [s["name"] for s in series] == ["ensemble (n = 5)", "mc_dropout (n = 5)"]  # sac has no model
    assert series[0]["y"][series[0]["x"].index(3)] == pytest.approx(np.median(values))
    assert charts["cost-cartpoleswingup-v0"]["series"][0]["y"][2] == 0
    assert charts["memory-cartpoleswingup-v0"]["series"][0]["x"] == [420, 420, 420]


def test_pit_counts_of_all_runs_are_pooled(page):
    series = charts_of(page)["reliability-cartpoleswingup-v0"]["series"]
    assert series[0]["name"] == "ensemble (1,000 predictions)"  # 5 seeds, 5 trials, 20 steps, 2 outputs
    assert "reliability-pendulumswingup-v0" not in charts_of(page)


def test_the_run_with_the_median_score_is_shown(folder, page):
    with (folder / "runs.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["task"] == TASKS[0] and r["method"] == "ensemble"]
    middle = sorted(rows, key=lambda r: float(r["score"]))[2]["seed"]
    labels = [run["label"] for run in page.data("fan-values")]
    assert labels[0] == f"{TASKS[0]}, ensemble, seed {middle} (median score of 5 seeds)"
    assert len(labels) == 2 and len(page.data("fan-values")[0]["trials"]) == 5
    assert len(page.named("img")) == 2
    missing = re.findall(r"runs/(\S+)/seed-\d is missing: no predictions and no video", page.seen)
    assert set(missing) == {"dynapilco-CartPoleSwingUp-v0/sac", *(f"dynapilco-PendulumSwingUp-v0/{m}" for m in METHODS)}


def test_every_figure_names_its_seeds(page):
    for chart in page.data("charts"):
        names = [s["name"] for s in chart["series"]] + list(chart["y"]["categories"])
        counted = any("(n = " in name or "predictions)" in name for name in names)
        assert counted or chart["name"].startswith("improvement"), chart["name"]


def test_a_comparison_that_goes_on(tmp_path):
    missing = [(TASKS[1], "sac", seed) for seed in range(5)] + [(TASKS[0], "sac", 4)]
    page = page_of(make_comparison(tmp_path / "a", methods=METHODS, missing=missing))
    assert "24 of 30 runs came to their end, 6 not done yet" in page.seen
    assert f"no run of sac has ended on {TASKS[1]} yet" in page.seen
    assert "1 runs that other methods have are missing" in page.seen or "Unbalanced" in page.seen
    charts = charts_of(page)
    assert "score-cartpoleswingup-v0" in charts and "score-pendulumswingup-v0" not in charts
    assert "cost-pendulumswingup-v0" in charts


def test_a_comparison_whose_first_method_has_just_ended(tmp_path):
    missing = [(task, method, seed) for task in TASKS for method in METHODS[1:] for seed in range(5)]
    page = page_of(make_comparison(tmp_path / "a", methods=METHODS, missing=missing))
    assert "nothing to compare it with" in page.seen and page.errors == []
    assert f"no run of {', '.join(METHODS[1:])} has come to its end yet" in page.seen


def test_different_budgets_are_said(tmp_path):
    page = page_of(make_comparison(tmp_path / "a", tasks=TASKS[:1], methods=("sac", "sac@100x")))
    assert "Budgets differ" in page.seen
    steps = charts_of(page)["return-by-steps-cartpoleswingup-v0"]
    assert steps["x"]["log"] and max(steps["series"][1]["x"]) == 3600
    assert max(charts_of(page)["success-cartpoleswingup-v0"]["series"][1]["x"]) == 5


def test_one_method_one_seed(tmp_path):
    page = page_of(make_comparison(tmp_path / "a", tasks=TASKS[:1], methods=("ensemble",), seeds=1))
    assert page.errors == [] and "[no interval]" in page.seen
    assert "nothing to compare it with" in page.seen


def test_scores_that_are_not_numbers_are_said_and_the_rest_is_shown(tmp_path):
    folder = make_comparison(tmp_path / "a", tasks=TASKS[:1], methods=METHODS)
    text = (folder / "runs.csv").read_text().splitlines()
    cells = text[1].split(",")
    (folder / "runs.csv").write_text("\n".join([text[0], ",".join([*cells[:4], "nan", *cells[5:]]), *text[2:]]) + "\n")
    page = page_of(folder)
    assert "1 runs came to their end with a score or a success rate that is no number" in page.seen
    assert "1 of 15 runs failed; they count as the worst score of their task" in page.seen
    assert "coverage-one-step-cartpoleswingup-v0" in charts_of(page)


def change(path, line, text):
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")


def test_bad_tables(tmp_path):
    folder = make_comparison(tmp_path / "a", tasks=TASKS[:1], methods=METHODS)
    lines = (folder / "runs.csv").read_text().splitlines()
    for name, line, text, message in (
        (
            "runs.csv",
            3,
            lines[1],
            "line 3: task dynapilco/CartPoleSwingUp-v0, method ensemble, seed 0 stands in line 2 too",
        ),
        ("runs.csv", 3, "a,b,c", "line 3: it has 3 cells"),
        ("trials.csv", 4, "a,b,1,x,60,3,1,,true,true,,,,,,,1", "line 4: trial is 'x'"),
        ("trials.csv", 1, "task,method", "line 1: column 'seed' is missing"),
    ):
        before = (folder / name).read_text()
        change(folder / name, line, text)
        with pytest.raises(UserError, match=re.escape(message)) as error:
            report.write(folder)
        assert name in str(error.value)
        (folder / name).write_text(before)
    (folder / "trials.csv").write_text((folder / "trials.csv").read_text() + "dynapilco/CartPole")
    assert "trials.csv, line 92: it has no line end" in page_of(folder).seen
    (folder / "compare.json").unlink()
    assert "compare.json is missing" in page_of(folder).seen
    (folder / "trials.csv").unlink()
    with pytest.raises(UserError, match=r"trials\.csv is missing"):
        report.write(folder)
    (folder / "trials.csv").write_text(",".join(WRITTEN_TRIALS) + "\n")
    with pytest.raises(UserError, match="no finished trial yet"):
        report.write(folder)


def test_names_from_tables_are_not_run(tmp_path):
    folder = make_comparison(tmp_path / "a", tasks=TASKS[:1], methods=METHODS)
    evil = "<script>alert(1)</script>"
    for name in ("runs.csv", "trials.csv"):
        (folder / name).write_text((folder / name).read_text().replace("mc_dropout", evil))
    page = page_of(folder)
    assert page.errors == [] and f"{evil} (n = 5)" in page.data("charts")[0]["y"]["categories"]
    assert len([a for a in page.named("script") if a.get("type") != "application/json"]) == 1


def test_figures_for_papers_draw_intervals(folder):
    page = build(folder)
    (chart,) = [c for c in page.charts if c.name == "success-cartpoleswingup-v0"]
    figure = chart_figure(chart)
    (axes,) = figure.axes
    left, right = axes.get_xlim()
    assert (
        left < min(chart.series[0].x) and max(chart.series[0].x) < right < max(chart.series[0].x) + 1
    )  # all is inside
    bars = [c for c in axes.collections if isinstance(c, LineCollection)]
    assert len(bars) == len(chart.series) == 3  # more would hide one another as bands
    ends = np.array(bars[0].get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, np.array([chart.series[0].low, chart.series[0].high]).T)
    assert axes.get_xlabel() == "trial" and axes.get_ylim() == (0, 1.02)


def test_titles_and_legends_stay_inside_the_figures(folder):
    for chart in build(folder).charts:
        figure = chart_figure(chart)
        figure.draw_without_rendering()
        parts = [figure._suptitle, *figure.legends]
        for part in parts:
            box = part.get_window_extent()
            assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, (chart.name, box)
            assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, (chart.name, box)
