"""The page around its sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dynapilco.report.charts.spec import Chart
from dynapilco.report.charts.styles import all_styles
from dynapilco.report.page.html import Html, data, tag
from dynapilco.report.page.theme import policy, script, style_sheet

GENERATOR = "dynapilco report"
"""Stands in the page's head: our own files are known by it."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    anchor: str
    title: str
    content: Html


@dataclass(frozen=True)
class Page:
    """Everything that a report shows.

    Attributes
    ----------
    title, kind : str
    sections : sequence of Section
        The first one is the answer.
    charts : sequence of Chart
        Those that the sections have places for.
    fans : list of dict
        Runs and their trials, for the fan browser.
    """

    title: str
    kind: str
    sections: Sequence[Section]
    charts: Sequence[Chart]
    fans: list[dict[str, Any]] = field(default_factory=list)


def render(page: Page, watch: str | None = None) -> str:
    """The page as one HTML text that needs no other file.

    Parameters
    ----------
    page : Page
    watch : str, optional
        State of the folder that the page shows: the page, served, asks for it and reloads when it changes.
    """
    looks = all_styles(1 + max((s.style for c in page.charts for s in c.series if s.style < 1000), default=0))
    code = script()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=GENERATOR),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(code)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="dynapilco-watch", content=watch) if watch is not None else None,
        tag("link", rel="icon", href="data:,"),
        tag("title", page.title),
        tag("style", Html(style_sheet(looks))),
    )
    body = tag("body", _header(page), tag("main", [_section(s) for s in page.sections], id="main"), _footer(),
               _values(page, looks), tag("script", Html(code)))  # fmt: skip
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(page: Page) -> list[Html]:
    links = [tag("li", tag("a", section.title, href=f"#{section.anchor}")) for section in page.sections[1:]]
    title = tag("div", tag("p", page.kind, class_="kind"), tag("h1", page.title))
    return [
        tag("a", "Skip to the answer", href="#main", class_="skip"),
        tag("header", title, tag("button", "Theme", type="button", id="theme", hidden=True)),
        tag("p", id="watch-state", role="status"),
        tag("nav", tag("ul", links), aria_label="Sections"),
        tag(
            "noscript", tag("p", "Scripts are off: figures are not drawn, their values stand in the tables below them.")
        ),
    ]


def _section(section: Section) -> Html:
    heading = tag("h2", section.title) if section.title else None
    return tag("section", heading, section.content, id=section.anchor)


def _footer() -> Html:
    return tag("footer", tag("p", "Made by dynapilco report. This file needs no network and no other file."))


def _values(page: Page, looks: Mapping[int, Any]) -> list[Html]:
    styles = {number: {"dash": look.dash, "marker": look.marker} for number, look in looks.items()}
    return [
        data("styles", styles),
        data("charts", [asdict(chart) for chart in page.charts]),
        data("fan-values", page.fans),
    ]
