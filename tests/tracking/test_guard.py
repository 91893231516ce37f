"""A sink that fails is reported once and costs nothing else."""

import pytest

from dynapilco import DynaPILCO
from dynapilco.tracking.guard import Guarded, guard
from dynapilco.tracking.sink import Sink

METHODS = ["start", "progress", "fitted", "improved", "trial", "message", "finish", "close"]


def call(sink, method, make):
    arguments = {
        "start": (make.config, 1),
        "progress": (0, "model", 1, 2, {}),
        "fitted": (0, {}),
        "improved": (0, {}),
        "trial": (make.trial(0),),
        "message": ("text",),
        "finish": ({},),
        "close": (),
    }
    getattr(sink, method)(*arguments[method])


FULL = OSError("No space left on device")


def raising(method, error=FULL):
    def fails(self, *_):
        self.failures += 1
        raise error

    heard = {name: (lambda self, *_, name=name: self.heard.append(name)) for name in METHODS if name != method}
    sink = type("Broken", (Sink,), {**heard, method: fails, "label": "the thing"})()
    sink.heard, sink.failures = [], 0
    return sink


def test_every_method_of_a_sink_is_guarded():
    told = {name for name, value in vars(Sink).items() if callable(value)}
    assert told == set(METHODS)
    assert told <= set(vars(Guarded))


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_is_reported_once_and_the_sink_is_quiet_from_then_on(make, method):
    broken, said = raising(method), []
    (sink,) = guard([broken], said.append)
    for name in [*METHODS, *METHODS]:
        call(sink, name, make)
    assert said == ["the thing failed (OSError: No space left on device); the run goes on without it"]
    before = METHODS.index(method)
    assert broken.heard[:before] == METHODS[:before]
    assert set(broken.heard[before:]) <= {"close"}  # what is held is released all the same
    assert broken.failures == (2 if method == "close" else 1)


def test_a_sink_that_is_the_run_itself_is_not_guarded(make):
    broken = raising("trial")
    type(broken).required = True
    (sink,) = guard([broken])
    assert sink is broken
    with pytest.raises(OSError, match="No space left"):
        sink.trial(make.trial(0))


def test_guarding_twice_changes_nothing():
    sinks = guard([Sink(), Sink()])
    assert guard(sinks) == sinks


def test_ctrl_c_is_no_failure(make):
    (sink,) = guard([raising("trial", KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        sink.trial(make.trial(0))


def test_without_a_place_for_reports_it_is_a_warning(make):
    (sink,) = guard([raising("fitted", ValueError())])
    with pytest.warns(RuntimeWarning, match=r"the thing failed \(ValueError\); the run goes on without it"):
        sink.fitted(0, {})


def agent():
    return DynaPILCO(
        "mlp",
        "dynapilco/CartPoleSwingUp-v0",
        "ensemble",
        inference_kwargs={"members": 2, "cold_steps": 30, "warm_steps": 20},
        policy_kwargs={"hidden": [8]},
        search={"steps": 10, "screening_steps": 5, "fresh_starts": 1},
        rollout={"total_particles": 8},
        seed=0,
        device="cpu",
    )


class Listener(Sink):
    def __init__(self):
        self.heard = []

    def start(self, config, trials):
        self.heard.append("start")

    def fitted(self, trial, metrics):
        self.heard.append(("fitted", trial, sorted(metrics)))

    def improved(self, trial, metrics):
        self.heard.append(("improved", trial, sorted(metrics)))

    def trial(self, trial):
        self.heard.append(("trial", trial.row.trial))


def test_an_agent_learns_the_same_among_broken_sinks_and_the_others_hear_everything():
    whole, broken, listener = agent().learn(120), agent(), Listener()
    heard_by_agent = [m for m in METHODS if m not in ("message", "finish", "close")]  # those it calls in a good run
    broken.attach([*(raising(method) for method in heard_by_agent), listener])
    with pytest.warns(RuntimeWarning, match="the thing failed") as said:
        broken.learn(120)
    assert len([w for w in said if "the thing failed" in str(w.message)]) == len(heard_by_agent)
    assert [row.ret for row in broken.history] == [row.ret for row in whole.history]
    assert listener.heard == [
        "start",
        ("trial", 0),
        ("fitted", 1, ["diverged", "potential", "steps"]),
        ("improved", 1, ["bad_rollouts", "lost", "predicted_return", "restarts"]),
        ("trial", 1),
    ]


def test_a_logger_of_sb3_that_fails_does_not_end_the_run():
    from stable_baselines3.common.logger import KVWriter, Logger

    class Full(KVWriter):
        def write(self, key_values, key_excluded, step=0):
            raise OSError("No space left on device")

        def close(self):
            pass

    learner = agent()
    learner.set_logger(Logger(None, [Full()]))
    with pytest.warns(RuntimeWarning, match=r"the logger failed \(OSError: No space left on device\)") as said:
        learner.learn(120)
    assert len(learner.history) == 2
    assert len([w for w in said if "the logger failed" in str(w.message)]) == 1
