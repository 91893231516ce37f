"""The report of a comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dynapilco.report.charts.of_comparison import anchors, calibration_charts, cost_charts, reliability_chart
from dynapilco.report.charts.of_statistics import learning_charts, score_charts, statistics_of
from dynapilco.report.charts.spec import Chart
from dynapilco.report.page.comparison_words import answer, pairs_table
from dynapilco.report.page.figures import charts_grid, fan_browser, fan_values
from dynapilco.report.page.frame import Page, Section
from dynapilco.report.page.html import Html, details, table, tag
from dynapilco.report.page.media import VideoShelf, shelf_of
from dynapilco.report.page.of_run import notes
from dynapilco.report.page.run_words import trial_title
from dynapilco.report.page.words import plural
from dynapilco.report.reading.comparison import DONE, FAILED, Comparison
from dynapilco.report.reading.examples import Example, examples, pit_counts

SAME_AGAIN = (
    "Each run's own config.toml lies in its folder below runs/. One seed gives the same run bit for bit on a CPU, with "
    "the versions below, the same engine and threads."
)


def comparison_page(data: Comparison) -> Page:
    """Everything that the report of a comparison shows."""
    said = list(data.notes)
    stats = statistics_of(data, said)
    chosen = examples(data, said)
    places = anchors(data.tasks)
    scores, learning = score_charts(stats, data, places), learning_charts(stats, data, places)
    calibration = [chart for task in data.tasks for chart in _calibration(data, task, places[task])]
    costs = [chart for task in data.tasks for chart in cost_charts(data, task, places[task])]
    believed = [(e, fan_values(_trials(e))) for e in chosen if e.run.beliefs]
    sections = [
        Section("answer", "", answer(data, stats)),
        Section("scores", "Scores", tag("div", _grid(scores), pairs_table(stats))),
        Section("learning", "Learning and success", _grid(learning)),
        Section("beliefs", "What the models believed, and what happened", _beliefs([e for e, _ in believed])),
        Section("calibration", "Calibration", _grid(calibration)),
        Section("cost", "Cost", _grid(costs)),
        Section("videos", "Videos", _videos(chosen)),
        Section("runs", "Runs", runs_table(data)),
        Section("repeat", "Configuration and how to repeat it", repeat(data)),
        Section("notes", "Notes", notes(said)),
    ]
    kind = f"Comparison of {plural(len(data.methods), 'method')} on {plural(len(data.tasks), 'task')}"
    fans = [{"label": _label(example), "trials": trials} for example, trials in believed]
    return Page(data.folder.resolve().name, kind, sections, [*scores, *learning, *calibration, *costs], fans)


def _grid(charts: Sequence[Chart]) -> Html:
    return charts_grid(charts) if charts else tag("p", "Nothing to show yet.", class_="note")


def _calibration(data: Comparison, task: str, place: str) -> list[Chart]:
    charts = calibration_charts(data, task, place)
    charts.insert(2, reliability_chart(data, task, place, pit_counts(data, task)))
    return [chart for chart in charts if not chart.empty]


def _trials(example: Example) -> list[tuple[str, Any]]:
    run = example.run
    return [(trial_title(row), run.beliefs[row.trial]) for row in run.rows if row.trial in run.beliefs]


def _label(example: Example) -> str:
    return f"{example.task}, {example.method}, seed {example.seed} (median score of {plural(example.seeds, 'seed')})"


def _beliefs(chosen: Sequence[Example]) -> Html:
    if not chosen:
        return tag("p", "No run kept its predictions (no fans/ folder in runs/).", class_="note")
    text = (
        "Before each trial the model imagined it, as particles through its sampled networks under the policy that then "
        "acted. Of each method and task the run whose score is the median of its seeds is shown: one run, not the best."
    )
    return tag("div", tag("p", text), fan_browser([_label(example) for example in chosen]))


def _videos(chosen: Sequence[Example]) -> Html:
    shown = [(path, _label(example)) for example in chosen for path in example.run.videos[-1:]]
    if not shown:
        return tag("p", "The runs that are shown kept no video.", class_="note")
    return shelf_of([path for path, _ in shown], [label for _, label in shown], VideoShelf())


def runs_table(data: Comparison) -> Html:
    """How many runs came to their end, and what happened to the others."""
    done = sum(run["status"] == DONE for run in data.runs)
    failed = [run for run in data.runs if run["status"] == FAILED]
    lines = [[run["task"], run["method"], run["seed"], run["error"] or "unknown"] for run in failed]
    waiting = len(data.runs) - done - len(failed)
    rest = f", {len(failed)} failed" * bool(failed) + f", {waiting} not done yet" * bool(waiting)
    return tag(
        "div",
        tag("p", f"{done} of {plural(len(data.runs), 'run')} came to their end{rest}."),
        table(["task", "method", "seed", "error"], lines, "Runs that failed") if lines else None,
    )


def repeat(data: Comparison) -> Html:
    """The command, the settings, and the versions that they depend on."""
    settings = data.settings
    command = settings.get("command")
    versions = settings.get("versions")
    shown = {name: value for name, value in settings.items() if name not in ("command", "versions", "directory")}
    if isinstance(command, str):
        button = tag("button", "Copy", type="button", data_copy="commands", hidden=True)
        block: Any = [tag("pre", command, id="commands", tabindex="0"), button]
    else:
        block = tag("p", "The command is not known: compare.json does not name it.", class_="note")
    return tag(
        "div",
        block,
        tag("p", SAME_AGAIN),
        table([], list(versions.items()), "Versions") if isinstance(versions, dict) and versions else None,
        details("compare.json: every setting", tag("pre", json.dumps(shown, indent=1), tabindex="0")),
    )
