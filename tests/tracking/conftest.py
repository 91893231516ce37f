import numpy as np
import pytest

from dynapilco.tracking.sink import Fan, Trial, TrialRow


def make_row(trial, **changes):
    explored = trial == 0
    values = {
        "trial": trial,
        "env_steps": 20 * (trial + 1),
        "env_seconds": 0.05 * 20 * (trial + 1),
        "ret": 0.1 + trial / 3,
        "predicted_return": None if explored else 1e-17 + trial / 7,
        "success": trial >= 2,
        "model_nll": None if explored else -1.2345678901234567,
        "coverage_95_one_step": None if explored else 0.95,
        "coverage_95_horizon": None if explored else 2 / 3,
        "nan_rollouts": None if explored else trial,
        "seconds_model": None if explored else 1.5,
        "seconds_policy": None if explored else 2.5,
        "seconds_env": 0.25,
    }
    return TrialRow(**{**values, **changes})


def make_fan(states=4, actions=1, steps=20, particles=30, dt=0.05):
    rng = np.random.default_rng(0)
    names = ("x", "x_dot", "theta", "theta_dot", "theta1", "theta1_dot")[:states]
    return Fan(
        seconds=np.arange(steps + 1) * dt,
        predicted=np.cumsum(rng.standard_normal((particles, steps + 1, states)), axis=1),
        observed=np.cumsum(rng.standard_normal((steps + 1, states)), axis=0),
        names=names,
        units=("m", "m/s", "rad", "rad/s", "rad", "rad/s")[:states],
        actions=rng.standard_normal((steps, actions)),
        action_names=tuple(f"force{i}" for i in range(actions)),
        action_units=("N",) * actions,
    )


def make_trial(trial, frames=0, **changes):
    row = make_row(trial, **changes)
    pictures = [np.full((32, 48, 3), 10 * i % 255, np.uint8) for i in range(frames)]
    return Trial(row, None if trial == 0 else make_fan(), pictures)


CONFIG = {"env_id": "dynapilco/CartPoleSwingUp-v0", "inference": "ensemble", "seed": 0}


@pytest.fixture
def make():
    """Row, fan and trial builders, and a configuration."""

    class Make:
        row, fan, trial, config = (
            staticmethod(make_row),
            staticmethod(make_fan),
            staticmethod(make_trial),
            CONFIG,
        )

    return Make
