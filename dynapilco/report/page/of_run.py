"""The report of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dynapilco.report.charts.of_run import run_charts
from dynapilco.report.charts.spec import Chart
from dynapilco.report.page.figures import charts_grid, fan_browser, fan_values
from dynapilco.report.page.frame import Page, Section
from dynapilco.report.page.html import Html, details, table, tag
from dynapilco.report.page.media import VideoShelf, shelf_of
from dynapilco.report.page.run_words import answer, cost_words, trial_title, trials_table
from dynapilco.report.reading.run import Run

NO_VIDEO = (
    "There is no video: the last trial is not done yet, the environment cannot be rendered, or the run was made with "
    "--no-video."
)


def run_page(run: Run) -> Page:
    """Everything that the report of a run shows."""
    charts = run_charts(run)
    trials = [(trial_title(row), run.beliefs[row.trial]) for row in run.rows if row.trial in run.beliefs]
    sections = [
        Section("answer", "", answer(run)),
        Section("learning", "Learning", tag("div", charts_grid(charts["learning"]), trials_table(run.rows))),
        Section("beliefs", "What the model believed, and what happened", beliefs(trials)),
        Section("calibration", "Calibration", calibration(charts["calibration"])),
        Section("cost-section", "Cost", tag("div", cost_words(run), charts_grid(charts["cost"]))),
        Section("videos", "Videos", videos(run)),
        Section("repeat", "Configuration and how to repeat it", repeat(run)),
        Section("notes", "Notes", notes(run.notes)),
    ]
    kind = f"Run of {run.told('env_id')} with {run.told('inference')}, seed {run.told('seed')}"
    shown = [chart for some in charts.values() for chart in some]
    fans = [{"label": run.name, "trials": fan_values(trials)}] if trials else []
    return Page(run.name, kind, sections, shown, fans)


def beliefs(trials: Sequence[tuple[str, Mapping[str, Any]]]) -> Html:
    """The fan browser."""
    if not trials:
        return tag("p", "The run kept no predictions (no fans/ folder): it was made by an earlier version, or has only "
                        "explored so far.", class_="note")  # fmt: skip
    text = (
        "Before each trial the model imagined it, as particles through its sampled networks under the policy that then "
        "acted. Move the slider (arrow keys work) to see what it believed of each trial."
    )
    return tag("div", tag("p", text), fan_browser(["this run"]))


def calibration(charts: Sequence[Chart]) -> Html:
    """Charts of calibration, or why there are none."""
    if not charts:
        return tag("p", "Nothing to show before the first trial with a model.", class_="note")
    return charts_grid(charts)


def videos(run: Run) -> Html:
    """The run's videos."""
    if not run.videos:
        return tag("p", NO_VIDEO, class_="note")
    captions = [path.stem.replace("trial-0", "trial-").replace("-", " ") for path in run.videos]
    return shelf_of(run.videos, captions, VideoShelf())


def repeat(run: Run) -> Html:
    """The commands, the configuration, and the versions that it depends on."""
    versions = (run.summary or {}).get("versions") or {}
    config = run.config_text
    return tag(
        "div",
        command_block(run.commands),
        tag(
            "p",
            "One seed gives the same run bit for bit on a CPU, with the versions below, the same engine and threads.",
        ),
        table([], list(versions.items()), "Versions") if versions else None,
        details("config.toml: every setting", tag("pre", config, tabindex="0")) if config else None,
    )


def command_block(commands: Sequence[str]) -> Html:
    """Command lines with a button that copies them."""
    if not commands:
        return tag("p", "command.txt is missing: dynapilco train --config config.toml repeats the run.", class_="note")
    button = tag("button", "Copy", type="button", data_copy="commands", hidden=True)
    return tag("div", tag("pre", "\n".join(commands), id="commands", tabindex="0"), button)


def notes(lines: Sequence[str]) -> Html:
    """What a reader should know about the files."""
    if not lines:
        return tag("p", "Every file was there and whole.", class_="note")
    return tag("ul", [tag("li", line) for line in dict.fromkeys(lines)])
