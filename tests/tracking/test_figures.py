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
