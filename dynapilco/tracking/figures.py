"""Figures of a run, as pure functions: numbers in, a matplotlib ``Figure`` out.

Only matplotlib's objects are used, never ``pyplot``: no window, no global state, safe in a thread or a
notebook. Colours are picked so that light and dark still differ when printed in grey, and every series also
differs in its line or marker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynapilco.tracking.sink import Fan, TrialRow

INK = "#1a1a1a"
MODEL = "#1f5a93"
WIDE_BAND, NARROW_BAND = "#d3e2f1", "#93bbdf"
REAL = "#b8431f"
GREY = "#6e6e6e"
SHARE = "#c4c4c4"
LETTER, LEGEND_HANDLE = 0.067, 0.62
"""Inches of a letter of the legend, and of what stands beside a label."""
SAMPLES = 5
MOST_SWITCHES = 60
"""Ups and downs of an action that a panel can show line by line."""
WINDOWS = 40
"""Parts of a trial over which actions that switch more often are summed up."""
GREEK = {"alpha", "beta", "gamma", "delta", "theta", "phi", "psi", "omega", "tau", "rho"}


def png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as the bytes of a PNG file."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def learning_curve(rows: Sequence[TrialRow]) -> Figure:
    """Real and predicted return of each trial.

    Parameters
    ----------
    rows : sequence of TrialRow
        Any number of trials, none included.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _real_returns(axes, rows)
    predicted = [(r.trial, r.predicted_return) for r in rows if r.predicted_return is not None]
    if predicted:
        trials, returns = zip(*predicted, strict=True)
        axes.plot(
            trials, returns, color=MODEL, ls="--", lw=1.2, marker="D", ms=5, mfc="white", zorder=2,
            label="predicted by the model",
        )  # fmt: skip
    axes.set(xlabel="trial", ylabel="return", title="Learning curve")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    _tidy(axes, grid="y")
    if rows:
        axes.set_xlim(rows[0].trial - 0.5, rows[-1].trial + 0.5)
        _interaction_axis(axes, rows)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _real_returns(axes: Axes, rows: Sequence[TrialRow]) -> None:
    """The line of real returns; its markers say what kind of trial each was."""
    axes.plot([r.trial for r in rows], [r.ret for r in rows], color=REAL, lw=1.6, zorder=3)
    explored = [r for r in rows if r.explored]
    policy = [r for r in rows if not r.explored]
    kinds = (
        ("exploration", explored, {"marker": "s", "s": 42, "facecolor": GREY, "edgecolor": INK}),
        ("real", [r for r in policy if not r.success],
         {"marker": "o", "s": 42, "facecolor": REAL, "edgecolor": REAL}),
        ("real, success", [r for r in policy if r.success],
         {"marker": "*", "s": 190, "facecolor": "#f2b705", "edgecolor": INK}),
    )  # fmt: skip
    for label, some, style in kinds:
        if some:
            axes.scatter([r.trial for r in some], [r.ret for r in some], zorder=4, lw=0.8, label=label, **style)
    if explored:
        last = max(r.trial for r in explored)
        axes.axvspan(rows[0].trial - 0.5, last + 0.5, color="#f0f0f0", lw=0, zorder=0)


def _interaction_axis(axes: Axes, rows: Sequence[TrialRow]) -> None:
    """A second axis at the top: how much experience the trials up to there took."""
    timed = all(r.env_seconds is not None for r in rows)
    stride = math.ceil(len(rows) / 12)
    shown = rows[::stride]
    top = axes.twiny()
    top.set_xlim(axes.get_xlim())
    top.set_xticks([r.trial for r in shown], [f"{r.env_seconds if timed else r.env_steps:g}" for r in shown])
    top.set_xlabel(f"experience so far [{'s' if timed else 'steps'}]", color=GREY, fontsize=9)
    top.tick_params(colors=GREY, labelsize=8, length=0)
    top.spines[:].set_visible(False)


def particle_fan(fan: Fan, title: str) -> Figure:
    """What the model expected of a trial, and what happened: a panel for each state column and each action.

    Parameters
    ----------
    fan : Fan
    title : str
        Heading of the figure.
    """
    panels = len(fan.names) + len(fan.action_names)
    columns = {1: 1, 2: 2, 4: 2, 7: 4, 8: 4}.get(panels, 3)
    lines = math.ceil(panels / columns)
    figure = Figure(figsize=(0.6 + 3.6 * columns, 1.1 + 2.2 * lines), layout="constrained")
    figure.suptitle(title, fontsize=12)
    clock = "time [steps]" if np.array_equal(fan.seconds, np.arange(len(fan.seconds))) else "time [s]"
    grid = [figure.add_subplot(lines, columns, k + 1) for k in range(panels)]
    for column, name in enumerate(fan.names):
        _state_panel(grid[column], fan, column)
        grid[column].set_ylabel(axis_label(name, fan.units[column]))
    for column, name in enumerate(fan.action_names):
        axes = grid[len(fan.names) + column]
        _action_panel(axes, fan, column)
        axes.set_ylabel(axis_label(name, fan.action_units[column]))
    for k, axes in enumerate(grid):
        _tidy(axes, grid="both")
        axes.set_xlim(fan.seconds[0], fan.seconds[-1])
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if k + columns >= panels:  # nothing below
            axes.set_xlabel(clock)
    figure.align_ylabels(grid)
    _fan_legend(figure, grid)
    return figure


def _state_panel(axes: Axes, fan: Fan, column: int) -> None:
    seconds = fan.seconds[: fan.predicted.shape[1]]
    particles = fan.predicted[:, :, column]
    particles = particles[np.isfinite(particles).all(axis=1)]
    if len(particles):
        low, below, middle, above, high = np.quantile(particles, [0.025, 0.25, 0.5, 0.75, 0.975], axis=0)
        axes.fill_between(seconds, low, high, color=WIDE_BAND, lw=0, label="95 % of particles")
        axes.fill_between(seconds, below, above, color=NARROW_BAND, lw=0, label="50 %")
        picked = np.linspace(0, len(particles) - 1, min(SAMPLES, len(particles))).astype(int)
        for k, trajectory in enumerate(particles[picked]):
            axes.plot(seconds, trajectory, color=MODEL, lw=0.5, alpha=0.7, label="" if k else "single particles")
        axes.plot(seconds, middle, color=MODEL, lw=1.6, ls=(0, (4, 1.5)), label="median")
    observed = fan.observed[:, column]
    axes.plot(
        fan.seconds[: len(observed)], observed, color=INK, lw=1.3, marker="o", ms=3, mfc="white", mew=0.9,
        markevery=max(1, len(observed) // 20), label="observed",
    )  # fmt: skip


def _action_panel(axes: Axes, fan: Fan, column: int) -> None:
    """Actions are held over a step, so they are drawn as stairs; where they switch too often to be seen, by windows."""
    values = fan.actions[:, column]
    edges = fan.seconds[: len(values) + 1]
    axes.axhline(0, color=GREY, lw=0.6, zorder=0)
    if _switches(values) <= MOST_SWITCHES:
        axes.stairs(values, edges, baseline=None, color=INK, lw=1.3, label="action taken")
        return
    size = math.ceil(len(values) / WINDOWS)
    starts = np.arange(0, len(values), size)
    edges = np.append(edges[starts], edges[-1])
    counts = np.diff(np.append(starts, len(values)))
    mean = np.add.reduceat(values, starts) / counts
    if np.isin(values, (0, 1)).all():
        axes.stairs(mean, edges, baseline=0, fill=True, color=SHARE, label=f"share of {size} steps with this action")
        axes.stairs(mean, edges, baseline=None, color=INK, lw=1.0)
        axes.set_ylim(0, 1)
        return
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    axes.stairs(high, edges, baseline=low, fill=True, color=SHARE, label=f"range of actions in {size} steps")
    axes.stairs(mean, edges, baseline=None, color=INK, lw=1.3, label="their mean")


def _switches(values: np.ndarray) -> int:
    """How often a value turns round by more than a tenth of its range: lines that cannot be told apart when there are
    many.
    """
    if len(values) < 3:
        return 0
    moves = np.diff(values)
    moves = moves[np.abs(moves) > 0.1 * np.ptp(values)]
    return int((np.sign(moves[1:]) != np.sign(moves[:-1])).sum())


def _fan_legend(figure: Figure, grid: Sequence[Axes]) -> None:
    found: dict[str, Artist] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    wide = max(len(label) for label in found) * LETTER + LEGEND_HANDLE
    figure.legend(
        list(found.values()), list(found), loc="outside lower center", frameon=False, fontsize=9, handlelength=2.2,
        columnspacing=1.6, ncols=len(found) if _fits(figure, found) else max(1, int(figure.get_figwidth() / wide)),
    )  # fmt: skip


def _fits(figure: Figure, labels: Iterable[str]) -> bool:
    """Whether a legend in one line is narrower than the figure."""
    return sum(len(label) * LETTER + LEGEND_HANDLE for label in labels) < figure.get_figwidth()


def _tidy(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e4e4e4", lw=0.6)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def axis_label(name: str, unit: str) -> str:
    """A readable label: ``theta1_dot``, ``rad/s`` becomes a dotted theta with index 1 and ``[rad/s]``."""
    return f"{_symbol(name)} [{unit}]" if unit else _symbol(name)


def _symbol(name: str) -> str:
    dotted = name.endswith("_dot")
    stem = name.removesuffix("_dot")
    base = stem.rstrip("0123456789").rstrip("_")
    index = stem[len(base) :].lstrip("_")
    if base not in GREEK and len(base) != 1:
        return name.replace("_", " ")
    symbol = f"\\{base}" if base in GREEK else base
    symbol = f"\\dot{{{symbol}}}" if dotted else symbol
    return f"${symbol}_{{{index}}}$" if index else f"${symbol}$"
