from dataclasses import replace
from io import BytesIO

import matplotlib.image
import numpy as np
import pytest

from dynapilco.tracking.figures import axis_label, learning_curve, particle_fan, png


def pixels(figure):
    return matplotlib.image.imread(BytesIO(png(figure, dpi=60)))


@pytest.mark.parametrize(("states", "actions"), [(1, 1), (2, 1), (4, 1), (6, 1), (6, 3)])
def test_fan_has_a_panel_for_each_column_and_shows_something_in_each(make, states, actions):
    figure = particle_fan(make.fan(states, actions), "Trial 3")
    assert len(figure.axes) == states + actions
    assert all(axes.has_data() for axes in figure.axes)
    assert pixels(figure)[..., :3].std() > 0.05


def test_fan_labels_carry_units(make):
    figure = particle_fan(make.fan(4), "Trial 3")
    assert [a.get_ylabel() for a in figure.axes] == [
        "$x$ [m]", "$\\dot{x}$ [m/s]", "$\\theta$ [rad]", "$\\dot{\\theta}$ [rad/s]", "force0 [N]",
    ]  # fmt: skip
    assert figure.axes[-1].get_xlabel() == "time [s]"


def test_fan_survives_lost_particles(make):
    fan = make.fan(2)
    fan.predicted[:10, 5:] = np.nan
    bands = particle_fan(fan, "some lost").axes[0].collections
    assert np.isfinite(bands[0].get_paths()[0].vertices).all()
    fan.predicted[:] = np.nan
    assert pixels(particle_fan(fan, "all lost")).size


def test_fan_of_a_rollout_that_is_shorter_than_the_trial_shows_what_there_is(make):
    fan = make.fan()
    short = replace(fan, predicted=fan.predicted[:, :8])
    axes = particle_fan(short, "").axes[0]
    median = next(line for line in axes.lines if line.get_label() == "median")
    observed = next(line for line in axes.lines if line.get_label() == "observed")
    assert list(median.get_xdata()) == list(fan.seconds[:8])
    assert list(observed.get_xdata()) == list(fan.seconds)
    assert axes.get_xlim()[1] == fan.seconds[-1]


def panel(make, actions):
    """The panel of one action column (T,)."""
    fan = make.fan(1, dt=0.02)
    steps = len(actions)
    seconds = np.arange(steps + 1) * 0.02
    fan = replace(
        fan, seconds=seconds, predicted=np.zeros((3, steps + 1, 1)), observed=np.zeros((steps + 1, 1)),
        actions=np.asarray(actions, float)[:, None],
    )  # fmt: skip
    return particle_fan(fan, "long")


def darkness(figure):
    """Share of dark pixels inside the last panel."""
    image = pixels(figure)[..., :3].mean(-1)
    box = figure.axes[-1].get_position()
    high, wide = image.shape
    inside = image[int((1 - box.y1) * high) : int((1 - box.y0) * high), int(box.x0 * wide) : int(box.x1 * wide)]
    return float((inside < 0.35).mean())


def test_choices_that_switch_at_every_step_are_shares_of_windows(make):
    rng = np.random.default_rng(0)
    picked = (rng.random(500) < np.linspace(0.2, 0.8, 500)).astype(float)
    figure = panel(make, picked)
    axes = figure.axes[-1]
    outline = next(patch for patch in axes.patches if not patch.get_fill())
    shares, edges, _ = outline.get_data()
    assert len(shares) == 39  # windows of 13 steps
    assert shares[0] == picked[:13].mean()
    assert shares[-1] == picked[-6:].mean()
    assert (edges[0], edges[1], edges[-1]) == (0.0, pytest.approx(0.26), pytest.approx(10.0))
    assert axes.get_ylim() == (0, 1)
    assert "share of 13 steps" in axes.get_legend_handles_labels()[1][0]
    assert darkness(figure) < 0.2


def test_forces_that_switch_are_a_range_and_a_mean(make):
    force = 5.0 * np.sign(np.sin(np.arange(400) * 2.5)) + np.linspace(0, 3, 400)
    figure = panel(make, force)
    labels = figure.axes[-1].get_legend_handles_labels()[1]
    assert labels == ["range of actions in 10 steps", "their mean"]
    band, mean = figure.axes[-1].patches[0].get_data(), figure.axes[-1].patches[1].get_data()
    assert band.values[0] == force[:10].max()
    assert band.baseline[0] == force[:10].min()
    assert mean.values[3] == pytest.approx(force[30:40].mean())
    assert darkness(figure) < 0.2


@pytest.mark.parametrize(("states", "actions"), [(1, 1), (2, 1), (4, 1), (6, 3)])
@pytest.mark.parametrize("switching", [False, True])
def test_no_legend_is_cut(make, states, actions, switching):
    fan = make.fan(states, actions)
    if switching:
        steps = 500
        fan = replace(
            fan, seconds=np.arange(steps + 1.0), predicted=np.zeros((3, 9, states)),
            observed=np.zeros((steps + 1, states)), actions=np.arange(steps)[:, None] % 2 * np.ones((1, actions)) * 3.0,
        )  # fmt: skip
    figure = particle_fan(fan, "t")
    pixels(figure)
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("actions", [[0, 1] * 25, np.sin(np.arange(500) / 20), np.repeat([0, 1] * 10, 30), [1]])
def test_actions_that_can_be_seen_are_drawn_step_by_step(make, actions):
    axes = panel(make, actions).axes[-1]
    assert axes.get_legend_handles_labels()[1] == ["action taken"]
    assert len(axes.patches[0].get_data().values) == len(actions)


def test_fan_of_an_environment_without_a_clock_counts_steps(make):
    assert particle_fan(make.fan(1, dt=1.0), "t").axes[-1].get_xlabel() == "time [steps]"


def test_bands_differ_in_grey(make):
    axes = particle_fan(make.fan(1), "t").axes[0]
    grey = [float(np.dot(c.get_facecolor()[0][:3], [0.299, 0.587, 0.114])) for c in axes.collections]
    assert grey[0] - grey[1] > 0.1  # 95 % is lighter than 50 %
    assert axes.lines[-1].get_label() == "observed"
    assert axes.lines[-1].get_marker() == "o"


def test_learning_curve_shows_returns_and_marks_exploration_and_success(make):
    rows = [make.row(i) for i in range(4)]
    axes, top = learning_curve(rows).axes
    real, predicted = axes.lines
    assert list(real.get_ydata()) == [r.ret for r in rows]
    assert list(predicted.get_xdata()) == [1, 2, 3]
    marks = {c.get_label(): len(c.get_offsets()) for c in axes.collections}
    assert marks == {"exploration": 1, "real": 1, "real, success": 2}
    assert top.get_xlabel().endswith("[s]")
    assert [t.get_text() for t in top.get_xticklabels()] == ["1", "2", "3", "4"]


def test_learning_curve_without_seconds_counts_steps(make):
    top = learning_curve([make.row(0, env_seconds=None), make.row(1, env_seconds=None)]).axes[1]
    assert top.get_xlabel().endswith("[steps]")


def test_learning_curve_of_no_trials(make):
    assert pixels(learning_curve([])).size


def test_pyplot_is_not_loaded():
    import subprocess
    import sys

    code = "import sys, dynapilco.tracking.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "unit", "label"),
    [
        ("theta1_dot", "rad/s", "$\\dot{\\theta}_{1}$ [rad/s]"),
        ("obs_3", "", "obs 3"),
        ("cart_speed", "m/s", "cart speed [m/s]"),
    ],
)
def test_axis_label(name, unit, label):
    assert axis_label(name, unit) == label
