"""What a chart shows, without saying how it is drawn.

The page's script and `dynapilco.report.charts.paper` draw the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

MARK = "dynapilco report"
"""Stands in the metadata of figures: our own files are known by it."""
Kind = Literal["lines", "bars", "intervals", "histogram"]
Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes
    ----------
    label : str
        What it shows, with its unit in square brackets.
    low, high : float, optional
        Limits; by the data where they are left out.
    percent : bool
        Whether shares are written in per cent.
    integer : bool
        Whether only whole numbers are marked.
    log : bool
    categories : tuple of str
        Names of the places 0, 1, ..., for ``bars`` and ``intervals``.
    """

    label: str
    low: float | None = None
    high: float | None = None
    percent: bool = False
    integer: bool = False
    log: bool = False
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Values of one thing.

    Attributes
    ----------
    name : str
    x, y : sequence of float
        Of the same length; ``x`` of a histogram holds one edge more. None leaves a gap.
    low, high : sequence of float
        Ends of the intervals about ``y`` (about ``x`` for ``intervals``), or nothing.
    style : int
        Which colour, line and marker: all three differ between neighbouring numbers.
    line, marker, step : bool
        Whether points are joined, marked, and joined by stairs.
    """

    name: str
    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()
    style: int = 0
    line: bool = True
    marker: bool = True
    step: bool = False


@dataclass(frozen=True)
class Rule:
    """A line across the chart, at a value of y (of x for ``intervals``)."""

    value: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes
    ----------
    name : str
        Name of its files, and of its element in the page.
    title, note : str
        The note says what the intervals are, and how many runs there were.
    kind : str
        ``lines``; ``bars`` (stacked, lying; ``y`` has the categories); ``intervals`` (a point and its interval for each
        category of ``y``); ``histogram``.
    x, y : Axis
    series : tuple of Series
    rules : tuple of Rule
    """

    name: str
    title: str
    kind: Kind
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    note: str = ""
    rules: tuple[Rule, ...] = field(default=())

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(value is not None for series in self.series for value in series.y)

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """The same as a table: headings, and rows of cells."""
        if self.kind == "histogram":
            return self._bins()
        across = self.y.categories if self.kind in ("bars", "intervals") else ()
        keys = range(len(across)) if across else sorted({x for s in self.series for x in s.x if x is not None})
        head = [self.y.label if across else self.x.label]
        head += [part for s in self.series for part in ([s.name, f"{s.name}: interval"] if s.low else [s.name])]
        found = [_by_place(s, bool(across), self.kind) for s in self.series]
        rows = []
        for key in keys:
            cells: list[Any] = [across[int(key)] if across else key]
            for s, values in zip(self.series, found, strict=True):
                value, low, high = values.get(key, (None, None, None))
                cells += [value, (low, high)] if s.low else [value]
            rows.append(cells)
        return head, rows

    def _bins(self) -> tuple[list[str], list[list[Any]]]:
        edges = self.series[0].x
        rows = [[(edges[k], edges[k + 1]), *(s.y[k] for s in self.series)] for k in range(len(edges) - 1)]
        return [self.x.label, *(s.name for s in self.series)], rows


def _by_place(series: Series, across: bool, kind: Kind) -> dict[Any, tuple[Any, Any, Any]]:
    """Place (category or x) -> value and the ends of its interval."""
    nothing = [None] * len(series.y)
    low, high = (series.low, series.high) if series.low else (nothing, nothing)
    places = series.y if across and kind == "intervals" else series.x
    values = series.x if kind == "intervals" else series.y
    if kind == "bars":
        places = range(len(series.y))
    return {p: (v, a, b) for p, v, a, b in zip(places, values, low, high, strict=True)}
