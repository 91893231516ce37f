import json
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from dynapilco import report
from dynapilco.core.errors import UserError
from dynapilco.report.page.media import MOST_BYTES
from dynapilco.report.writing import build

from .parsing import Parsed


def page_of(folder, **options):
    return Parsed(report.write(folder, **options).read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def no_figures(request, monkeypatch):
    """Figures for papers take seconds: one test draws them."""
    if "figures" not in request.keywords:
        monkeypatch.setattr("dynapilco.report.writing.paper_figures", lambda page: iter(()))


def test_the_answer_comes_first_with_its_interval(tmp_path, make):
    page = page_of(make.run(tmp_path / "a"))
    assert page.errors == []
    seen = page.seen
    assert "Solved: 19 of 20 fresh episodes succeed with the policy of trial 3" in seen
    assert "76 % to 99 %" in seen  # Wilson, 19 of 20
    assert seen.index("Solved:") < seen.index("The run in short") < seen.index("Learning curve")
    assert "97.0 % one step ahead (3 trials) and 90.0 % of whole imagined trials (3 trials)" in seen


def test_nothing_is_fetched_from_anywhere(tmp_path, make):
    page = page_of(make.run(tmp_path / "a"))
    for reference in page.references():
        assert reference.startswith(("#", "data:")), reference
    assert not re.search(r"@import|url\((?!#)", (tmp_path / "a/report.html").read_text())
    (policy,) = [m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "'unsafe-inline'" in policy


def test_charts_hold_the_values_of_the_table(tmp_path, make):
    page = page_of(make.run(tmp_path / "a"))
    charts = {chart["name"]: chart for chart in page.data("charts")}
    assert {"learning-curve", "success", "coverage", "pit", "reliability", "model-nll", "cost"} == set(charts)
    series = {s["name"]: s for s in charts["learning-curve"]["series"]}
    assert series["real return"]["y"] == [3.0, 5.0, 7.0, 9.0]
    assert series["predicted by the model"]["x"] == [1, 2, 3]
    assert (series["exploration"]["x"], series["real, no success"]["x"], series["real, success"]["x"]) == (
        [0],
        [1],
        [2, 3],
    )
    assert {s["name"]: s["y"] for s in charts["success"]["series"]}["successes"] == [0, 1, 2]
    places = {attributes.get("id") for _, attributes in page.elements}
    assert set(charts) <= places


def test_pit_charts_pool_all_trials(tmp_path, make):
    charts = {chart["name"]: chart for chart in page_of(make.run(tmp_path / "a")).data("charts")}
    counted = sum(
        np.sum(json.loads(file.read_text())["pit"]["counts"], axis=0) for file in (tmp_path / "a/fans").iterdir()
    )
    np.testing.assert_allclose(charts["pit"]["series"][0]["y"], counted / 120 * 20)
    inside = charts["reliability"]["series"][0]
    assert inside["x"][5] == 0.5 and inside["y"][5] == pytest.approx(counted[5:15].sum() / 120)
    assert (inside["y"][0], inside["y"][-1]) == (0, 1)


def test_fans_are_there_for_every_trial_that_has_one(tmp_path, make):
    folder = make.run(tmp_path / "a")
    (folder / "fans/trial-009.json").write_text(
        (folder / "fans/trial-001.json").read_text()
    )  # of a trial since dropped
    (runs,) = page_of(folder).data("fan-values")
    assert [t["title"].split(":")[0] for t in runs["trials"]] == ["Trial 1", "Trial 2", "Trial 3"]
    assert runs["trials"][2]["fan"]["observed"][0][:2] == [3, 3]


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&</title>"


def test_names_from_files_are_shown_and_not_run(tmp_path, make):
    folder = make.run(tmp_path / "<script>alert(0)<", config={**make.config, "env_id": EVIL, "inference": EVIL})
    (folder / "command.txt").write_text(f"dynapilco train {EVIL}\n")
    fan = json.loads((folder / "fans/trial-002.json").read_text())
    fan["fan"]["names"][0] = fan["fan"]["units"][0] = f"{EVIL}<!--<script>"
    (folder / "fans/trial-002.json").write_text(json.dumps(fan))
    page = page_of(folder)
    assert page.errors == []
    runnable = [a for a in page.named("script") if a.get("type") != "application/json"]
    assert len(runnable) == 1 and page.named("img") == []
    assert page.seen.count("alert(2)") >= 3
    assert EVIL in page.data("fan-values")[0]["trials"][1]["fan"]["names"][0]


def test_a_run_that_goes_on_says_so(tmp_path, make):
    page = page_of(make.run(tmp_path / "a", finished=False))
    assert "Not finished: 4 trials so far (4 s of experience (80 steps)); the last return is 9, a success." in page.seen
    assert "There is no video" in page.seen


def test_a_task_without_a_rule_of_success(tmp_path, make):
    folder = make.run(tmp_path / "a")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "solved": None, "success_rate": None}))
    assert "Mean return 9 (9 to 9) in 20 fresh episodes" in page_of(folder).seen


def test_numbers_that_are_not_finite_are_gaps(tmp_path, make):
    folder = make.run(tmp_path / "a")
    text = (folder / "progress.csv").read_text().splitlines()
    (folder / "progress.csv").write_text("\n".join([*text[:-1], text[-1].replace("-3.0", "nan")]) + "\n")
    charts = {chart["name"]: chart for chart in page_of(folder).data("charts")}
    assert charts["model-nll"]["series"][0]["y"] == [-1, -2, None]


def test_missing_and_damaged_files_are_notes(tmp_path, make):
    folder = make.run(tmp_path / "a")
    (folder / "command.txt").unlink()
    (folder / "config.toml").write_text("= nonsense")
    (folder / "summary.json").write_text("{half")
    (folder / "fans/trial-001.json").write_text("[]")
    (folder / "fans/trial-002.json").write_text('{"format": 1, "trial": 2, "fan": {"times": "x"}, "pit": null}')
    page = page_of(folder)
    for words in ("command.txt is missing", "config.toml is no valid TOML", "summary.json cannot be read",
                  "trial-001.json holds no JSON object", "trial-002.json is left out: its fan is damaged"):  # fmt: skip
        assert words in page.seen, words
    assert len(page.data("fan-values")[0]["trials"]) == 1


def test_a_run_without_fans_says_why(tmp_path, make):
    page = page_of(make.run(tmp_path / "a", beliefs=False))
    assert "The run kept no predictions" in page.seen and page.data("fan-values") == []


def test_a_half_written_line_is_left_out_with_a_note(tmp_path, make):
    folder = make.run(tmp_path / "a", finished=False)
    with (folder / "progress.csv").open("a") as file:
        file.write("4,100,5.0,11.")
    page = page_of(folder)
    assert "progress.csv, line 6: it has no line end" in page.seen
    assert len(page.data("charts")[0]["series"][0]["x"]) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [("2,60,3.0,oops,,,,,,,,,0.2,...", "line 4: return is 'oops'"), ("2,60", "line 4: it has 2 cells"),
     ("2,60.5,3.0,1.0,,,,,,,,,0.2,...", "line 4: env_steps is '60.5'"),
     ("1,60,3.0,1.0,,,,,,,,,0.2,...", "trial 1 stands there twice"),
     ("2,60,3.0,,,,,,,,,,0.2,...", "line 4: return is empty"), ('2,60,"3.0', "line")],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_named(tmp_path, make, line, message):
    folder = make.run(tmp_path / "a", finished=False)
    lines = (folder / "progress.csv").read_text().splitlines()
    line = line.replace("...", "," * (lines[0].count(",") - line.count(",")))  # columns that came later, empty
    (folder / "progress.csv").write_text("\n".join([*lines[:3], line, *lines[4:]]) + "\n")
    with pytest.raises(UserError, match=re.escape(message)) as error:
        report.write(folder)
    assert "progress.csv" in str(error.value) and not (folder / "report.html").exists()


def test_folders_that_are_no_runs(tmp_path, make):
    with pytest.raises(UserError, match="does not exist"):
        report.write(tmp_path / "none")
    with pytest.raises(UserError, match="is neither a run"):
        report.write(tmp_path)
    folder = make.run(tmp_path / "a", trials=0, finished=False)
    with pytest.raises(UserError, match="no finished trial yet"):
        report.write(folder)
    (folder / "progress.csv").unlink()
    with pytest.raises(UserError, match="no finished trial yet"):
        report.write(folder)
    (folder / "progress.csv").write_text("trial,env_steps\n0,1\n")
    with pytest.raises(UserError, match="line 1: column 'return' is missing"):
        report.write(folder)
    (folder / "progress.csv").write_bytes(b"trial,env_steps,return\n0,1,\xff\n")
    with pytest.raises(UserError, match="line 2: it is no UTF-8"):
        report.write(folder)


def test_only_reports_of_ours_are_replaced(tmp_path, make):
    folder = make.run(tmp_path / "a")
    first = report.write(folder)
    assert report.write(folder) == first
    mine = tmp_path / "mine.html"
    mine.write_text("about dynapilco report")
    with pytest.raises(UserError, match="--force"):
        report.write(folder, mine)
    assert mine.read_text() == "about dynapilco report"
    report.write(folder, str(mine), force=True)
    assert "Solved" in mine.read_text()
    with pytest.raises(UserError, match="expected the name of an HTML file"):
        report.write(folder, tmp_path / "out.pdf")


@pytest.mark.figures
def test_figures_for_papers(tmp_path, make, monkeypatch):
    folder = make.run(tmp_path / "a")
    some = ("learning-curve", "pit", "cost")
    whole = build(folder)
    few = replace(whole, charts=[chart for chart in whole.charts if chart.name in some])
    monkeypatch.setattr("dynapilco.report.writing.build", lambda folder: few)
    report.write(folder, tmp_path / "b" / "talk.html")
    names = {path.name for path in (tmp_path / "b/figures").iterdir()}
    assert names == {f"talk-{stem}{suffix}" for stem in (*some, "fan") for suffix in (".png", ".svg")}
    before = {path: path.read_bytes() for path in (tmp_path / "b/figures").iterdir()}
    report.write(folder, tmp_path / "b" / "talk.html")  # ours, and the same bytes again
    assert before == {path: path.read_bytes() for path in (tmp_path / "b/figures").iterdir()}
    svg = (tmp_path / "b/figures/talk-learning-curve.svg").read_text()
    assert ">trial<" in svg and ">return<" in svg and "predicted by the model" in svg
    (tmp_path / "b/figures/talk-pit.svg").write_text("<svg/>")
    with pytest.raises(UserError, match=r"talk-pit\.svg.*--force"):
        report.write(folder, tmp_path / "b" / "talk.html")


def test_videos_are_embedded_up_to_a_size(tmp_path, make):
    folder = make.run(tmp_path / "a")
    page = page_of(folder)
    (video,) = page.named("video")
    assert video["src"].startswith("data:video/mp4;base64,") and "controls" in video
    with (folder / "videos/trial-02.mp4").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    (folder / "videos/trial-01.mp4").write_bytes(b"")
    (folder / "videos/trial-00.gif").write_bytes(b"GIF89a")
    page = page_of(folder)
    assert "videos/trial-02.mp4 is not embedded: it has 8.0 MB, and a video may have 8 MB" in page.seen
    assert "trial-01.mp4 is empty" in page.seen and "had no H.264 encoder" in page.seen
    assert len(page.named("video")) == 1 and page.named("img")[0]["src"].startswith("data:image/gif;base64,")


def test_every_control_has_a_name_and_every_chart_a_table(tmp_path, make):
    page = page_of(make.run(tmp_path / "a"))
    charts = page.data("charts")
    assert page.seen.count("Values as a table") == len(charts)
    plots = [a for a in page.named("div") if a.get("class") == "plot"]
    assert len(plots) == len(charts) and all(a["tabindex"] == "0" and a["aria-label"] for a in plots)
    (slider,) = [a for a in page.named("input") if a["type"] == "range"]
    assert slider["aria-label"] == "trial"
    assert all(chart["x"]["label"] and chart["y"]["label"] for chart in charts)


def test_the_style_and_the_script_are_part_of_the_package():
    names = {path.name for path in (files("dynapilco.report") / "assets").iterdir()}
    assert names == {"report.css", "plot.js", "charts.js", "fans.js", "page.js"}


def test_the_command_line(cli, tmp_path, make):
    make.run(tmp_path / "a")
    code, out, err = cli("report", "a")
    assert (code, err) == (0, "") and out.startswith("report: a/report.html")
    assert cli("report", "a", "--port", 80)[2] == "dynapilco: error: --port 80 means something only with --watch\n"
    code, _, err = cli("report", "b")
    assert code == 2 and "does not exist" in err
    code, _, err = cli("report", "a", "--watch", "--force")
    assert code == 2 and "--watch writes no file" in err
