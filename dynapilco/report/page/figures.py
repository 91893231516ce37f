"""Elements for charts and fans: what the script fills, and what is there without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dynapilco.report.charts.spec import Axis, Chart
from dynapilco.report.page.html import Html, details, table, tag
from dynapilco.report.page.words import num, percent


def charts_grid(charts: Sequence[Chart]) -> Html:
    """Charts side by side where there is room."""
    return tag("div", [chart_figure(chart) for chart in charts], class_="charts")


def chart_figure(chart: Chart) -> Html:
    """A chart's place, its note, and its values as a table."""
    named = f"{chart.title}. {chart.x.label}; {chart.y.label}. The arrow keys read out values."
    plot = tag("div", class_="plot", tabindex="0", role="group", aria_roledescription="chart", aria_label=named)
    return tag(
        "figure",
        tag("h3", chart.title),
        tag("div", class_="legend"),
        tag("div", plot, class_="stage"),
        tag("div", class_="said", aria_live="polite"),
        tag("figcaption", chart.note) if chart.note else None,
        values_table(chart),
        id=chart.name,
    )


def values_table(chart: Chart) -> Html:
    """The chart's values, to unfold."""
    head, rows = chart.table()
    values = chart.x if chart.kind in ("intervals", "bars") else chart.y
    lines = [[_cell(row[0], chart.x), *(_cell(cell, values) for cell in row[1:])] for row in rows]
    return details("Values as a table", table(head, lines, chart.title))


def _cell(value: Any, axis: Axis) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "–" if None in value else f"{_cell(value[0], axis)} to {_cell(value[1], axis)}"
    return percent(value, 1) if axis.percent else num(value)


def fan_browser(labels: Sequence[str]) -> Html:
    """Controls and panels for fans; the script fills them.

    Parameters
    ----------
    labels : sequence of str
        Names of the runs to choose from; with one, there is no choice.
    """
    options = [tag("option", label, value=index) for index, label in enumerate(labels)]
    choice = tag("label", "run", tag("select", options, data_part="choice"), class_="wide") if len(labels) > 1 else None
    slider = tag("input", type="range", min="0", value="0", step="1", data_part="slider", aria_label="trial")
    buttons = [
        tag("button", text, type="button", data_part=part, aria_label=label)
        for part, text, label in (("back", "◀", "earlier trial"), ("next", "▶", "later trial"), ("play", "Play", None))
    ]
    same = tag("label", tag("input", type="checkbox", checked=True, data_part="same"), "same axes for all trials")
    return tag(
        "div",
        tag("div", choice, class_="controls") if choice else None,
        tag("div", tag("label", "trial", class_="short"), slider, buttons, same, class_="controls"),
        tag("p", class_="fan-title", data_part="title", aria_live="polite"),
        _key(),
        tag("div", class_="panels", data_part="panels"),
        tag("p", class_="note", data_part="note"),
        tag("details", tag("summary", "Values of this trial as a table"),
            tag("div", class_="scroll", tabindex="0", role="region", aria_label="Values of this trial"),
            data_part="table"),
        id="fans",
    )  # fmt: skip


def _key() -> Html:
    def sample(text: str, *parts: Html) -> Html:
        return tag("li", tag("svg", *parts, width="34", height="14", viewBox="0 0 34 14", aria_hidden="true"), text)

    def line(number: int, **attributes: Any) -> Html:
        return tag("line", x1="1", x2="33", y1="7", y2="7", style=f"stroke:var(--s{number})", **attributes)

    def band(opacity: str) -> Html:
        return tag("rect", x="1", y="1", width="32", height="12", style="fill:var(--s1001)", fill_opacity=opacity)

    dot = tag("circle", cx="17", cy="7", r="3", style="stroke:var(--s1000);fill:var(--paper)", stroke_width="1.5")
    return tag(
        "ul",
        sample("observed", line(1000, stroke_width="1.8"), dot),
        sample("median of particles", line(1001, stroke_width="2", stroke_dasharray="6 3")),
        sample("50 %", band("0.5")),
        sample("95 % of particles", band("0.18")),
        sample("single particles", line(1001, stroke_width="0.7")),
        class_="key",
    )


def fan_values(trials: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """(title, document of ``fans/``) as the script takes them."""
    return [{"title": title, "fan": document["fan"], "pit": document["pit"]} for title, document in trials]
