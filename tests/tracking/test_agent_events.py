"""What the agent tells, against what it knows."""

import io

import numpy as np
import pytest
from rich.console import Console

from dynapilco import DynaPILCO
from dynapilco.search import PathwiseSearch
from dynapilco.tracking.console import ConsoleSink
from dynapilco.tracking.events import EventSink, read_events
from dynapilco.tracking.files import FileSink
from dynapilco.tracking.recorded import read_progress
from dynapilco.tracking.sink import Sink

SIZES = {"cold_steps": 30, "warm_steps": 20}
METHODS = {"ensemble": {"members": 4, **SIZES}, "mc_dropout": SIZES}


class Listener(Sink):
    def __init__(self):
        self.trials, self.fits, self.policies = [], [], []

    def fitted(self, trial, metrics):
        self.fits.append((trial, metrics))

    def improved(self, trial, metrics):
        self.policies.append((trial, metrics))

    def trial(self, trial):
        self.trials.append(trial)


@pytest.fixture(scope="module", params=METHODS)
def told(request):
    listener = Listener()
    agent = DynaPILCO(
        "mlp",
        "dynapilco/CartPoleSwingUp-v0",
        request.param,
        inference_kwargs=METHODS[request.param],
        policy_kwargs={"hidden": [8]},
        search={"steps": 10, "screening_steps": 5, "fresh_starts": 1},
        rollout={"total_particles": 32},
        seed=0,
        device="cpu",
    )
    return agent.attach([listener]).learn(180), listener


def test_rollouts_are_the_data(told):
    agent, listener = told
    data = agent.loop.state.data
    for number, trial in enumerate(listener.trials):
        rows, rollout = data.trials == number, trial.rollout
        for name in ("states", "next_states", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(rollout, name), getattr(data, name)[rows].numpy())
        assert rollout.rewards.sum() == pytest.approx(trial.row.ret, rel=1e-5)
        assert (rollout.dt, rollout.names[0], rollout.units[0]) == (0.05, "x", "m")


def test_pit_counts_every_prediction_and_agrees_with_the_coverage(told):
    _, listener = told
    assert listener.trials[0].pit is None
    for trial in listener.trials[1:]:
        values = trial.pit.values
        assert values.shape == (60, len(trial.pit.names))
        assert set(trial.pit.names) <= set(trial.rollout.names)
        assert ((values >= 0) & (values <= 1)).all()
        within = ((values >= 0.025) & (values <= 0.975)).mean()
        assert within == pytest.approx(trial.row.coverage_95_one_step, abs=0.03)  # that one by sampling


def test_spread_is_finite_and_of_the_size_of_the_fan(told):
    _, listener = told
    assert listener.trials[0].spread is None
    for trial in listener.trials[1:]:
        spread = trial.spread
        assert spread.epistemic.shape == spread.aleatoric.shape == (61, 4)
        assert np.isfinite(spread.epistemic).all() and np.isfinite(spread.aleatoric).all()
        assert (spread.aleatoric[0] > 0).all()  # starts differ
        total = np.sqrt(spread.epistemic**2 + spread.aleatoric**2)
        ratio = total / trial.fan.predicted.std(axis=0)
        assert 0.5 < np.median(ratio) < 2


def test_fits_and_policies(told):
    _, listener = told
    assert [trial for trial, _ in listener.fits] == [trial for trial, _ in listener.policies] == [1, 2]
    for (_, metrics), trial in zip(listener.policies, listener.trials[1:], strict=True):
        assert metrics["predicted_return"] == trial.row.predicted_return
        assert metrics["bad_rollouts"] == trial.row.nan_rollouts
        assert metrics["lost"] == trial.row.lost_candidates
    assert all(m["steps"] > 0 and np.isfinite(m["potential"]) and m["diverged"] is False for _, m in listener.fits)


def test_lost_candidates_are_told(monkeypatch, tmp_path):
    """Two candidates of every search lose all reward and gradient."""
    ascend = PathwiseSearch._ascend

    def losing(self, first, last):
        ascend(self, first, last)
        self.lost = 2

    monkeypatch.setattr(PathwiseSearch, "_ascend", losing)
    out = io.StringIO()
    console = ConsoleSink(console=Console(file=out, force_terminal=False, width=120))
    settings = {"search": {"steps": 4, "screening_steps": 2, "fresh_starts": 1}, "rollout": {"total_particles": 8}}
    a = DynaPILCO("mlp", "dynapilco/CartPoleSwingUp-v0", inference_kwargs=SIZES, seed=0, device="cpu", **settings)
    a.attach([FileSink(tmp_path), EventSink(tmp_path), console]).learn(120)
    assert [row.lost_candidates for row in read_progress(tmp_path)] == [None, 2]
    assert [event["lost"] for event in read_events(tmp_path) if event["event"] == "policy"] == [2]
    lines = [line for line in out.getvalue().splitlines() if line.startswith("trial")]
    assert ["2 lost candidates started afresh" in line for line in lines] == [False, True]
