"""Pictures of classifiers of two-dimensional inputs: the decision boundary, and where the model is uncertain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics.checks import require_floats, require_shape
from dynapilco.inference.diagnostics.plots import COLOURS, MARKERS, new_figure
from dynapilco.inference.diagnostics.protocols import ClassificationPredictive, class_probabilities

Predict = Callable[[Tensor], ClassificationPredictive]
Grid = tuple[Tensor, tuple[float, float, float, float], int]


def _grid(x: Tensor, y: Tensor, resolution: int, margin: float) -> Grid:
    """Points (resolution^2, 2) over the box of the data, widened by ``margin`` of its size on every side."""
    require_floats(x=x)
    if x.ndim != 2 or x.shape[1] != 2:
        raise UserError(f"x has shape {tuple(x.shape)}: expected two-dimensional inputs, (B, 2)")
    require_shape("y", y, (len(x),), "one label for each row of x")
    if y.is_floating_point():
        raise UserError(f"y is {y.dtype}: expected integer labels")
    if resolution < 2 or margin < 0:
        raise UserError(f"resolution is {resolution} and margin {margin}: expected at least 2 and at least 0")
    low, high = x.amin(0), x.amax(0)
    pad = margin * (high - low).clamp(min=1e-6)
    low, high = low - pad, high + pad
    steps = torch.linspace(0, 1, resolution, dtype=x.dtype, device=x.device)
    first, second = low[0] + steps * (high[0] - low[0]), low[1] + steps * (high[1] - low[1])
    points = torch.cartesian_prod(second, first).flip(1)  # rows run along the first input, as images do
    return points, (float(low[0]), float(high[0]), float(low[1]), float(high[1])), resolution


def _picture(values: Tensor, resolution: int) -> np.ndarray:
    return values.detach().double().cpu().reshape(resolution, resolution, *values.shape[1:]).numpy()


def _scatter(ax: Axes, x: Tensor, y: Tensor, **style: object) -> None:
    for label in y.unique().tolist():
        points = x[y == label].detach().cpu().numpy()
        i = int(label)
        look = {"color": COLOURS[i % len(COLOURS)], "edgecolors": "black", "linewidths": 0.6, "s": 22, **style}
        ax.scatter(*points.T, marker=MARKERS[i % len(MARKERS)], label=f"class {i}", **look)


def _blend(probabilities: np.ndarray) -> np.ndarray:
    """Colour of the most probable class, paler the less probable it is: white at 1/C."""
    classes = probabilities.shape[-1]
    colours = np.array([to_rgb(COLOURS[i % len(COLOURS)]) for i in range(classes)])
    strength = (probabilities.max(-1, keepdims=True) - 1 / classes) / (1 - 1 / classes)
    return 1 - 0.6 * strength * (1 - colours[probabilities.argmax(-1)])


@torch.no_grad()
def plot_decision_boundary(
    predict: Predict,
    x: Tensor,
    y: Tensor,
    *,
    resolution: int = 150,
    margin: float = 0.3,
    labels: tuple[str, str] = ("input 1", "input 2"),
) -> Figure:
    """Most probable class over the plane, paler where it is less sure, with the boundary and the data.

    Parameters
    ----------
    predict : callable
        Inputs (M, 2) -> a predictive with ``probabilities`` (M, C).
    x : Tensor, shape (B, 2)
    y : Tensor, shape (B,), integers
    resolution : int
        Points along each side of the grid.
    margin : float
        How far beyond the data to look, as a fraction of their range.
    labels : pair of str
        Names (with units) of the two inputs.
    """
    points, extent, resolution = _grid(x, y, resolution, margin)
    probabilities = _picture(class_probabilities(predict(points)), resolution)
    figure, (ax,) = new_figure(5.6, 5.0)
    ax.imshow(_blend(probabilities), origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    winner = probabilities.argmax(-1)
    across, up = np.linspace(*extent[:2], resolution), np.linspace(*extent[2:], resolution)
    for label in range(probabilities.shape[-1]):
        # The contour of the lead over the runner-up is smooth, where that of the class number is a staircase.
        others = np.delete(probabilities, label, axis=-1).max(-1)
        if 0 < (winner == label).mean() < 1:
            ax.contour(across, up, probabilities[..., label] - others, levels=[0.0], colors="black", linewidths=1.4)
    _scatter(ax, x, y)
    ax.plot([], [], color="black", linewidth=1.4, label="boundary")
    ax.set(xlabel=labels[0], ylabel=labels[1], title="Decision boundary (colour fades to white at chance)")
    ax.set(xlim=extent[:2], ylim=extent[2:])
    figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure


@torch.no_grad()
def plot_uncertainty_area(
    predict: Predict,
    x: Tensor,
    y: Tensor,
    *,
    resolution: int = 150,
    margin: float = 0.3,
    labels: tuple[str, str] = ("input 1", "input 2"),
) -> Figure:
    """Maps of epistemic (mutual information) and aleatoric (expected entropy) uncertainty over the plane, in nats.

    Both panels share one colour scale, so that they can be compared. Parameters as in
    :func:`plot_decision_boundary`; the predictive gives ``epistemic`` and ``aleatoric``, (M,).
    """
    points, extent, resolution = _grid(x, y, resolution, margin)
    predictive = predict(points)
    maps = {
        "Epistemic: mutual information": _picture(predictive.epistemic.reshape(-1), resolution),
        "Aleatoric: expected entropy": _picture(predictive.aleatoric.reshape(-1), resolution),
    }
    top = max(float(values.max()) for values in maps.values())
    figure, axes = new_figure(10.0, 4.4, panels=2)
    image = None
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(values, origin="lower", extent=extent, aspect="auto", cmap="viridis", vmin=0, vmax=top)
        _scatter(ax, x, y, edgecolors="white", s=16)
        ax.set(xlabel=labels[0], ylabel=labels[1], title=title, xlim=extent[:2], ylim=extent[2:])
    assert image is not None
    figure.colorbar(image, ax=axes, label="uncertainty (nats)", pad=0.02)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False, fontsize=9, markerscale=1.8)
    return figure
