"""Plots: drawn without pyplot, labelled, and with the right numbers in their artists."""

import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from dynapilco.core.errors import UserError
from dynapilco.inference import diagnostics
from dynapilco.inference.diagnostics import (
    RobustnessRow,
    calibration_error,
    plot_bands,
    plot_calibration,
    plot_decision_boundary,
    plot_pit,
    plot_reliability,
    plot_robustness,
    plot_uncertainty_area,
    quantile_curve,
    robustness,
)


def labelled(figure):
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    for ax in figure.axes:
        assert ax.get_xlabel() or ax.get_ylabel()
        assert ax.get_title() or ax.get_label() == "<colorbar>"
    return figure.axes


def test_bands_are_two_standard_deviations_in_the_order_of_x(gaussian_predictive):
    x = torch.tensor([2.0, 0.0, 1.0])
    mean = torch.stack([x, 10 * x], 1)
    predictive = gaussian_predictive(mean, torch.full((3, 2), 1.0), torch.full((3, 2), 8.0))
    data = (torch.tensor([[0.5]]), torch.tensor([[3.0, 4.0]]))
    (ax,) = labelled(plot_bands(x[:, None], predictive, data, output=1, x_label="angle (rad)"))
    line, points = ax.lines
    assert line.get_xdata().tolist() == [0, 1, 2] and line.get_ydata().tolist() == [0, 10, 20]
    assert points.get_xdata().tolist() == [0.5] and points.get_ydata().tolist() == [4.0]
    total, epistemic = (band.get_paths()[0].vertices[:, 1] for band in ax.collections)
    assert (total.min(), total.max()) == (-6, 26) and (epistemic.min(), epistemic.max()) == (-2, 22)
    assert ax.get_xlabel() == "angle (rad)"
    with pytest.raises(UserError, match="output is 2"):
        plot_bands(x, predictive, output=2)
    with pytest.raises(UserError, match="x has shape"):
        plot_bands(torch.zeros(3, 2), predictive)


def test_the_calibration_plot_shows_the_quantile_curve():
    pit = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).square()
    (ax,) = labelled(plot_calibration(pit))
    curves = [line for line in ax.lines if line.get_label() != "ideal"]
    for i, line in enumerate(curves):
        np.testing.assert_allclose(line.get_ydata(), quantile_curve(pit)[:, i], rtol=1e-6)
        assert f"{float(calibration_error(pit[:, i])):.2g}" in line.get_label()
    (ax,) = labelled(plot_calibration({"swag": pit, "hmc": pit[:, 0]}))
    assert [line.get_label().split()[0] for line in ax.lines] == ["ideal", "swag", "hmc"]


def test_the_pit_plot_shows_the_histogram():
    (ax,) = labelled(plot_pit(torch.tensor([[0.05], [0.07], [0.55], [0.95]]), bins=10))
    heights = [patch.get_height() for patch in ax.patches[:10]]
    np.testing.assert_allclose(heights, [5, 0, 0, 0, 0, 2.5, 0, 0, 0, 2.5])
    with pytest.raises(UserError, match="bins is 1"):
        plot_pit(torch.tensor([0.5]), bins=1)
    with pytest.raises(UserError, match="outside"):
        plot_pit(torch.tensor([1.5]))


def test_the_reliability_diagram_shows_the_bins(blobs):
    x, labels, predict = blobs
    probabilities = predict(x).probabilities
    (ax,) = labelled(plot_reliability(probabilities, labels))
    binned = diagnostics.reliability_bins(probabilities, labels, 10)
    offsets = ax.collections[-1].get_offsets()
    np.testing.assert_allclose(offsets, torch.stack([binned.confidence, binned.accuracy], 1))
    assert f"{float(diagnostics.ece(probabilities, labels, 10)):.3f}" in ax.get_title()


def test_the_decision_boundary_lies_where_the_two_classes_are_even(class_predictive):
    def predict(points):
        first = torch.sigmoid(3 * (points[:, 0] - 0.5 * points[:, 1]))
        return class_predictive(torch.stack([1 - first, first], 1)[None])

    x = torch.tensor([[-1.0, -3.0], [1.0, 3.0]])
    (ax,) = labelled(plot_decision_boundary(predict, x, torch.tensor([0, 1]), margin=0.5, labels=("a (m)", "b (m)")))
    assert ax.get_xlim() == (-2, 2) and ax.get_ylim() == (-6, 6) and ax.get_xlabel() == "a (m)"
    contours = [c for c in ax.collections if hasattr(c, "levels")]
    assert len(contours) == 2
    vertices = np.concatenate([path.vertices for c in contours for path in c.get_paths()])
    np.testing.assert_allclose(vertices[:, 0], 0.5 * vertices[:, 1], atol=0.01)
    image = np.asarray(ax.images[0].get_array())
    blue, red = image[75, 5], image[75, -5]
    assert blue[2] > blue[0] and red[0] > red[2]  # class 0 on the left, class 1 on the right, rows run upwards


def test_the_uncertainty_maps_have_the_orientation_of_the_inputs(class_predictive):
    def predict(points):
        predictive = class_predictive(torch.full((1, len(points), 2), 0.5))

        class Known:
            probabilities = predictive.probabilities
            epistemic = (points[:, 0] + 10 * points[:, 1]) / 100
            aleatoric = points[:, 0] * 0 + 0.25

        return Known()

    x, y = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([0, 1])
    axes = labelled(plot_uncertainty_area(predict, x, y, margin=0.0, resolution=11))
    image = np.asarray(axes[0].images[0].get_array())
    assert image[0, 0] == pytest.approx(0) and image[0, -1] == pytest.approx(0.01)
    assert image[-1, 0] == pytest.approx(0.2) and image[-1, -1] == pytest.approx(0.21)
    assert axes[0].images[0].get_clim() == axes[1].images[0].get_clim() == (0, 0.25)
    assert "epistemic" in axes[0].get_title().lower() and "aleatoric" in axes[1].get_title().lower()
    assert "nats" in axes[2].get_ylabel()


@pytest.mark.parametrize("plot", [plot_decision_boundary, plot_uncertainty_area])
def test_plane_plots_refuse_what_is_not_a_plane(plot, blobs):
    x, y, predict = blobs
    for bad, message in (((x[:, :1], y), "x has shape"), ((x, y[:3]), "y has shape"), ((x, y.float()), "y is")):
        with pytest.raises(UserError, match=message):
            plot(predict, *bad)
    with pytest.raises(UserError, match="resolution is 1"):
        plot(predict, x, y, resolution=1)


def test_the_robustness_plot_has_a_line_for_each_kind(blobs):
    x, labels, predict = blobs
    rows = robustness(predict, x, labels, [1.0, 0.0, 0.5], torch.Generator().manual_seed(0))
    axes = labelled(plot_robustness(rows))
    assert len(axes) == 3 and "nats" in axes[2].get_ylabel()
    for i, kind in enumerate(("gaussian", "dropout", "shift")):
        line = axes[0].lines[i]
        assert line.get_label() == kind and list(line.get_xdata()) == [0.0, 0.5, 1.0]
        expected = [row.error for s in (0.0, 0.5, 1.0) for row in rows if (row.kind, row.severity) == (kind, s)]
        assert list(line.get_ydata()) == expected
    regression = plot_robustness([RobustnessRow("shift", 0.0, "regression", -1.0, 0.1, 0.2, 0.3)])
    assert regression.axes[0].get_ylabel() == "RMSE (units of y)"
    assert regression.axes[1].lines[0].get_ydata()[0] == -1.0
    with pytest.raises(UserError, match="rows is empty"):
        plot_robustness([])


def test_no_plot_touches_pyplot():
    """A module of this package that imports pyplot would pick a backend for the user's whole process."""
    for name, module in list(sys.modules.items()):
        if name.startswith("dynapilco.inference.diagnostics"):
            assert "pyplot" not in vars(module) and "plt" not in vars(module), name
