"""Charts and fans as figures for papers: matplotlib draws the same values that the page draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from dynapilco.report.charts.spec import MARK, Chart, Numbers, Series
from dynapilco.report.charts.styles import PREDICTED, REAL, style
from dynapilco.tracking.figures import axis_label

MARKERS = {
    "circle": "o", "square": "s", "triangle": "^", "diamond": "D", "down": "v", "cross": "x", "plus": "+", "star": "*",
}  # fmt: skip
CROWDED = 2
"""With more intervals than these, bars instead of bands."""
HATCHES = ("", "////", "----", "\\\\\\\\", "||||")
WIDTH = 5.2
"""Of a chart, in inches."""
GREY, GRID = "#6e6e6e", "#e4e4e4"


def svg_and_png(figure: Figure, dpi: int = 200) -> dict[str, bytes]:
    """A figure as the bytes of both files, by suffix; the same values give the same bytes."""
    vector, raster = BytesIO(), BytesIO()
    with rc_context({"svg.hashsalt": MARK, "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_figure(vector, format="svg", metadata={"Creator": MARK, "Date": None})
    FigureCanvasAgg(figure).print_figure(raster, format="png", dpi=dpi, metadata={"Software": MARK})
    return {".svg": vector.getvalue(), ".png": raster.getvalue()}


def chart_figure(chart: Chart) -> Figure:
    """One chart, readable at a column's width."""
    rows, names = len(chart.y.categories), [thing.name for thing in chart.series] + [r.label for r in chart.rules]
    # a legend that is wider than the figure is cut: 0.065 inches a letter, half an inch for the line
    columns = max(1, min(3, int(WIDTH / (0.5 + 0.065 * max(map(len, names), default=0))), len(names)))
    height = max(1.6, 1.3 + 0.28 * rows * _rows_each(chart)) if rows else 3.0
    figure = Figure(figsize=(WIDTH, height + 0.17 * math.ceil(len(names) / columns)), layout="constrained")
    axes = figure.add_subplot()
    {"lines": _lines, "bars": _bars, "intervals": _intervals, "histogram": _histogram}[chart.kind](axes, chart)
    for rule in chart.rules:
        line = axes.axvline if chart.kind == "intervals" else axes.axhline
        line(rule.value, color=GREY, lw=0.9, ls=(0, (5, 3)), zorder=1, label=rule.label)
    _dress(axes, chart)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return figure


def _rows_each(chart: Chart) -> float:
    return max(1.0, 0.7 * len(chart.series)) if chart.kind == "intervals" else 1.0


def _dress(axes: Axes, chart: Chart) -> None:
    axes.figure.suptitle(chart.title, fontsize=10)  # over the figure: axes beside long labels are narrower than it
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    for side, values in ((axes.xaxis, chart.x), (axes.yaxis, chart.y)):
        side.set_label_text(values.label, fontsize=9)
        if values.percent:
            side.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
        if values.integer and not values.log:
            side.set_major_locator(MaxNLocator(integer=True, nbins=10))
    if chart.x.log:
        axes.set_xscale("log")
    axes.set_xlim(chart.x.low, chart.x.high)
    if chart.y.categories:
        axes.set_yticks(range(len(chart.y.categories)), chart.y.categories)
        axes.set_ylim(len(chart.y.categories) - 0.4, -0.6)
    else:
        axes.set_ylim(*_limits(chart))


def _floats(values: Numbers) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def _lines(axes: Axes, chart: Chart) -> None:
    banded = [series for series in chart.series if series.low]
    for series in chart.series:
        look, x, y = style(series.style), _floats(series.x), _floats(series.y)
        crowded, place = bool(series.low) and len(banded) > CROWDED, axes.transData
        if crowded:
            place = _aside(axes, len(x), banded.index(series), len(banded))
            _whiskers(axes, series, banded.index(series), len(banded))
        elif series.low:
            axes.fill_between(x, _floats(series.low), _floats(series.high), color=look.light, alpha=0.15, lw=0,
                              step="post" if series.step else None)  # fmt: skip
        axes.plot(
            x, y, color=look.light, lw=1.4 if series.line else 0, ls=(0, look.dash) if look.dash else "-",
            marker=MARKERS[look.marker] if series.marker else None, ms=9.0 if look.marker == "star" else 4.5,
            transform=place, markevery=max(1, len(x) // 12), label=series.name,
            drawstyle="steps-post" if series.step else "default",
            zorder=3 if series.line else 4,
        )  # fmt: skip
        # what is drawn to the side of its place does not count for the limits
        kept = np.isfinite(x) & np.isfinite(y)
        axes.update_datalim(np.column_stack([x[kept], y[kept]]))
    axes.autoscale_view()


def _aside(axes: Axes, points: int, place: int, count: int) -> Transform:
    """A little to the side of the true place, so that series with few points do not hide one another."""
    points_aside = 0.0 if points > 15 else (place - (count - 1) / 2) * 3
    return axes.transData + ScaledTranslation(points_aside / 72, 0, axes.figure.dpi_scale_trans)


def _whiskers(axes: Axes, series: Series, place: int, count: int) -> None:
    """Intervals as bars beside one another: many bands would hide one another."""
    x, y, low, high = map(_floats, (series.x, series.y, series.low, series.high))
    every = max(1, math.ceil(len(x) / 6)) if len(x) > 15 else 1
    kept = slice(place * every // count, None, every)
    axes.errorbar(
        x[kept], y[kept], np.abs([y - low, high - y])[:, kept], fmt="none", ecolor=style(series.style).light,
        elinewidth=0.9, capsize=1.8, transform=_aside(axes, len(x), place, count), zorder=2,
    )  # fmt: skip


def _limits(chart: Chart) -> tuple[float | None, float | None]:
    """Limits of y: those of the chart, else so that far ends of intervals do not press the curves flat."""
    y = np.concatenate([_floats(series.y) for series in chart.series])
    ends = np.concatenate([_floats([*series.low, *series.high]) for series in chart.series])
    y, ends = y[np.isfinite(y)], ends[np.isfinite(ends)]
    if chart.kind != "lines" or not len(y) or not len(ends):
        return chart.y.low, chart.y.high
    room = 0.6 * (y.max() - y.min())
    low, high = max(ends.min(), y.min() - room), min(ends.max(), y.max() + room)
    margin = 0.05 * (max(high, y.max()) - min(low, y.min()))
    free = (min(low, y.min()) - margin, max(high, y.max()) + margin)
    return (free[0] if chart.y.low is None else chart.y.low), (free[1] if chart.y.high is None else chart.y.high)


def _bars(axes: Axes, chart: Chart) -> None:
    start = np.zeros(len(chart.y.categories))
    for number, series in enumerate(chart.series):
        width, hatch = np.nan_to_num(_floats(series.y)), HATCHES[number % len(HATCHES)]
        edge = style(series.style).light
        fill = "white" if hatch else edge
        axes.barh(range(len(width)), width, 0.7, start, color=fill, edgecolor=edge, hatch=hatch, label=series.name)
        start += width


def _histogram(axes: Axes, chart: Chart) -> None:
    for series in chart.series:
        axes.stairs(_floats(series.y), _floats(series.x), fill=True, color=style(series.style).light, alpha=0.75,
                    label=series.name)  # fmt: skip


def _intervals(axes: Axes, chart: Chart) -> None:
    for number, series in enumerate(chart.series):
        look, shift = style(series.style), _shift(number, len(chart.series))
        x, y = _floats(series.x), _floats(series.y) + shift
        if series.low:
            axes.hlines(y, _floats(series.low), _floats(series.high), color=look.light, lw=1.4)
        axes.plot(x, y, lw=0, color=look.light, marker=MARKERS[look.marker], ms=5, label=series.name, clip_on=False)


def _shift(number: int, count: int) -> float:
    return 0.0 if count < 2 else (number / (count - 1) - 0.5) * 0.56


def fan_figure(fan: Mapping[str, Any], title: str) -> Figure:
    """A fan from its file: a panel for each state column and each action.

    Parameters
    ----------
    fan : mapping
        As `dynapilco.tracking.fans.fan_values` makes it.
    title : str
    """
    panels = len(fan["names"]) + len(fan["action_names"])
    columns = min(3, panels)
    lines = math.ceil(panels / columns)
    figure = Figure(figsize=(0.4 + 2.6 * columns, 0.9 + 1.8 * lines), layout="constrained")
    figure.suptitle(title, fontsize=10)
    grid = [figure.add_subplot(lines, columns, k + 1) for k in range(panels)]
    times, states = _floats(fan["times"]), len(fan["names"])
    for column, axes in enumerate(grid[:states]):
        _belief(axes, times, fan, column)
        axes.set_ylabel(axis_label(fan["names"][column], fan["units"][column]), fontsize=9)
    for column, axes in enumerate(grid[states:]):
        values = _floats(fan["actions"][column])
        axes.step(times[: len(values)], values, where="post", color=style(REAL).light, lw=1.1)
        axes.set_ylabel(axis_label(fan["action_names"][column], fan["action_units"][column]), fontsize=9)
    for number, axes in enumerate(grid):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GRID, lw=0.6)
        axes.tick_params(labelsize=8)
        if number + columns >= panels:
            axes.set_xlabel(f"time [{fan['clock']}]", fontsize=9)
    figure.align_ylabels(grid)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def _belief(axes: Axes, times: np.ndarray, fan: Mapping[str, Any], column: int) -> None:
    blue = style(PREDICTED).light
    quantiles: Sequence[Numbers] = fan["quantiles"][column]
    if len(quantiles) == 5:
        low, below, middle, above, high = map(_floats, quantiles)
        at = times[: len(middle)]
        axes.fill_between(at, low, high, color="#d3e2f1", lw=0, label="95 % of particles")
        axes.fill_between(at, below, above, color="#93bbdf", lw=0, label="50 %")
        axes.plot(at, middle, color=blue, lw=1.3, ls=(0, (4, 1.5)), label="median")
    observed = _floats(fan["observed"][column])
    axes.plot(
        times[: len(observed)], observed, color=style(REAL).light, lw=1.1, marker="o", ms=2.4, mfc="white", mew=0.8,
        markevery=max(1, len(observed) // 15), label="observed",
    )  # fmt: skip
