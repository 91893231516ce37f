"""Pictures of predictive distributions over real targets and of robustness; each returns a Figure, none is written.

Figures are made on the Agg canvas without pyplot, so they need no display and leave no state behind; save one with
``figure.savefig(path)``. Colours are those of Okabe and Ito, which colour-blind readers tell apart; lines differ in
dash or marker as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics.calibration import LEVELS, calibration_error, quantile_curve
from dynapilco.inference.diagnostics.checks import require_floats, require_unit_interval
from dynapilco.inference.diagnostics.classification import ReliabilityBins, ece, reliability_bins
from dynapilco.inference.diagnostics.corruption import RobustnessRow
from dynapilco.inference.diagnostics.protocols import RegressionPredictive

BLUE, ORANGE, GREEN, PINK, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#555555"


def new_figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``panels`` axes side by side, without pyplot; inches."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _array(tensor: Tensor):
    return tensor.detach().double().cpu().numpy()


def _column(name: str, tensor: Tensor, output: int) -> Tensor:
    """Take output ``output`` of (B, out) or (B,)."""
    columns = tensor if tensor.ndim == 2 else tensor.reshape(len(tensor), -1)
    if not 0 <= output < columns.shape[1]:
        raise UserError(f"output is {output}: {name} has outputs 0..{columns.shape[1] - 1}")
    return columns[:, output]


def plot_bands(
    x: Tensor,
    predictive: RegressionPredictive,
    data: tuple[Tensor, Tensor] | None = None,
    *,
    output: int = 0,
    x_label: str = "input x",
    y_label: str = "output y",
) -> Figure:
    """Predictive mean with two bands of two standard deviations: epistemic inside total.

    Parameters
    ----------
    x : Tensor, shape (B,) or (B, 1)
        The inputs ``predictive`` was made for, in any order.
    predictive : RegressionPredictive
        ``mean``, ``epistemic`` and ``aleatoric`` are used, (B, out).
    data : pair of Tensors, optional
        Training inputs (N,) or (N, 1) and targets (N,) or (N, out), drawn as points.
    output : int
        Which output to draw.
    """
    require_floats(x=x)
    if x.numel() != len(x):
        raise UserError(f"x has shape {tuple(x.shape)}: expected one-dimensional inputs, (B,) or (B, 1)")
    order = x.reshape(-1).argsort()
    place = _array(x.reshape(-1)[order])
    mean = _column("predictive", predictive.mean, output)[order]
    epistemic = _column("predictive", predictive.epistemic, output)[order]
    total = epistemic + _column("predictive", predictive.aleatoric, output)[order]
    figure, (ax,) = new_figure(6.4, 4.0)
    # Opaque, so that the legend shows the very colours of the picture.
    bands = ((total, "#CFE7F7", "total: mean ± 2 sd"), (epistemic, "#6FB3DC", "epistemic: mean ± 2 sd"))
    for variance, colour, label in bands:
        low, high = _array(mean - 2 * variance.sqrt()), _array(mean + 2 * variance.sqrt())
        ax.fill_between(place, low, high, color=colour, linewidth=0, label=label)
    ax.plot(place, _array(mean), color="#00325A", linewidth=1.8, label="mean")
    if data is not None:
        points = _column("data", data[1], output)
        ax.plot(
            _array(data[0].reshape(-1)), _array(points), "o", ms=3.5, mfc=ORANGE, mec="black", mew=0.5, label="data"
        )
    ax.set(xlabel=x_label, ylabel=y_label, title="Predictive bands")
    ax.margins(x=0)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _named_curves(pit: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One column of PIT values for each curve: one for each output, or one for each name."""
    if not isinstance(pit, Tensor):
        return {name: values.reshape(-1) for name, values in pit.items()}
    columns = pit.reshape(len(pit), -1)
    if columns.shape[1] == 1:
        return {"model": columns[:, 0]}
    return {f"output {i}": columns[:, i] for i in range(columns.shape[1])}


def plot_calibration(pit: Tensor | Mapping[str, Tensor], levels: Sequence[float] = LEVELS) -> Figure:
    """Calibration curve of a regression model: observed against expected frequency (Kuleshov et al. 2018).

    The grey band holds a calibrated model's value at each level with probability 95 % (pointwise, normal
    approximation to the binomial) for the smallest of the data sets.

    Parameters
    ----------
    pit : Tensor (B, out) or (B,), or mapping of names to such
        PIT values; a curve for each output, or (outputs pooled) for each name.
    levels : sequence of float in (0, 1)
    """
    curves = _named_curves(pit)
    figure, (ax,) = new_figure(4.8, 4.8)
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    half = 1.96 * (grid * (1 - grid) / min(len(values) for values in curves.values())).sqrt()
    low, high = _array((grid - half).clamp(0, 1)), _array((grid + half).clamp(0, 1))
    ax.fill_between(_array(grid), low, high, color="0.85", linewidth=0, label="95 % band if calibrated")
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="ideal")
    for (name, values), colour, marker in zip(curves.items(), cycle(COLOURS), cycle(MARKERS)):
        label = f"{name} (error {float(calibration_error(values, levels)):.2g})"
        observed = _array(quantile_curve(values, levels)[:, 0])
        ax.plot(levels, observed, marker=marker, ms=4, linewidth=1.5, color=colour, label=label)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="Calibration of predictive quantiles")
    ax.set(xlabel="predictive probability level p", ylabel="fraction of targets below the p-quantile")
    ax.legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def plot_pit(pit: Tensor, bins: int = 10) -> Figure:
    """Histogram of PIT values, all outputs pooled; flat if calibrated, a U if overconfident, a hill if underconfident.

    The grey band holds a bin's density with probability 99 % under calibration (pointwise, normal approximation).
    """
    require_floats(pit=pit)
    require_unit_interval("pit", pit)
    if bins < 2:
        raise UserError(f"bins is {bins}: expected at least 2")
    values = _array(pit.reshape(-1).clamp(0, 1))
    figure, (ax,) = new_figure(5.6, 3.8)
    half = 2.576 * ((bins - 1) / len(values)) ** 0.5
    ax.hist(values, bins=bins, range=(0, 1), density=True, color=SKY, edgecolor="white", label=f"{len(values)} targets")
    ax.axhspan(max(1 - half, 0), 1 + half, color=GREY, alpha=0.25, linewidth=0, label="99 % band if calibrated")
    ax.axhline(1, color="black", linestyle="--", linewidth=1.2, label="uniform")
    ax.set(xlim=(0, 1), xlabel="PIT: predictive cdf at the target", ylabel="density", title="PIT histogram")
    ax.set_ylim(0, max(ax.get_ylim()[1], 1.2 * (1 + half)))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def plot_reliability(probabilities: Tensor, labels: Tensor, bins: int = 10) -> Figure:
    """Reliability diagram of top-label confidence (B, C), labels (B,): accuracy in each bin of equal width."""
    binned: ReliabilityBins = reliability_bins(probabilities, labels, bins)
    error = float(ece(probabilities, labels, bins))
    figure, (ax,) = new_figure(4.8, 4.8)
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="ideal")
    confidence, right = _array(binned.confidence), _array(binned.accuracy)
    ax.vlines(confidence, confidence, right, color=VERMILION, linewidth=2, label="gap")
    share = _array(binned.count) / float(binned.count.sum())
    sizes = 25 + 250 * share
    ax.scatter(confidence, right, s=sizes, color=BLUE, zorder=3, clip_on=False, label="bin (area: share of the data)")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"Reliability, ECE {error:.3f} ({bins} bins)")
    ax.set(xlabel="probability of the predicted class", ylabel="accuracy")
    ax.set_title(ax.get_title(), pad=12)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9, markerscale=0.6)
    return figure


def plot_robustness(rows: Sequence[RobustnessRow]) -> Figure:
    """Error, NLL and epistemic uncertainty against the severity of input corruption; a line for each kind."""
    if not rows:
        raise UserError("rows is empty: expected the rows of robustness()")
    regression = rows[0].task == "regression"
    panels = (
        ("error", "Error", "RMSE (units of y)" if regression else "fraction of wrong labels"),
        ("nll", "Negative log-likelihood", "NLL (nats per example)"),
        ("epistemic", "Epistemic uncertainty", "sd (units of y)" if regression else "mutual information (nats)"),
    )
    figure, axes = new_figure(10.5, 3.6, panels=3)
    kinds = list(dict.fromkeys(row.kind for row in rows))
    for ax, (field, title, unit) in zip(axes, panels, strict=True):
        for kind, colour, marker in zip(kinds, cycle(COLOURS), cycle(MARKERS)):
            line = sorted((row.severity, getattr(row, field)) for row in rows if row.kind == kind)
            ax.plot(*zip(*line, strict=True), marker=marker, ms=4.5, color=colour, label=kind)
        ax.set(title=title, xlabel="severity of corruption", ylabel=unit)
        ax.grid(alpha=0.25)
        if field != "nll":
            ax.set_ylim(bottom=0)
            if field == "error" and not regression:
                ax.yaxis.set_major_formatter(PercentFormatter(1))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(kinds), frameon=False, fontsize=9)
    return figure
