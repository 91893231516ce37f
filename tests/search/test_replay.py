"""Searches whose step is recorded: the same numbers, in fixed storage."""

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from dynapilco.dynamics import DynamicsDraw, Geometry, make_stepping
from dynapilco.inference import DenseDraw, DenseStack, Gaussian
from dynapilco.policies import make_policy
from dynapilco.search import Imagination, PathwiseSearch, SearchConfig
from dynapilco.search.replay import Recording, call_again, cuda_graph, duplicate, fill, same_shape
from tests.search.test_pathwise import DT, HIGH, LOW, make_task, reward

CPU = torch.device("cpu")
CONFIG = SearchConfig(steps=24, screening_steps=10, fresh_starts=3, survivors=2, learning_rate=0.02, redraw_every=4)
GEOMETRY = Geometry(2, 1, (0,), ((0, 1),), DT)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(generator):
    """A new draw each time: a double integrator whose strength varies, and an angle that plays no part."""
    weights = torch.zeros(3, 5, 2)
    strength = 0.9 + 0.2 * torch.rand(3, generator=generator)
    weights[:, 1, 0], weights[:, 4, 0], weights[:, 4, 1] = DT, DT**2 / 2 * strength, DT * strength
    stack = DenseStack((weights,), (torch.zeros(3, 2),), ())
    draw = DenseDraw(3, torch.full((3, 2), 0.01), Gaussian(), stack)
    return DynamicsDraw(draw, GEOMETRY, make_stepping(GEOMETRY, "delta"), None)


def search(reward=reward, config=CONFIG, record=None, **kwargs):
    policy = make_policy("mlp", {"hidden": (8,)}, GEOMETRY, LOW, HIGH, torch.ones(2))
    task = replace(make_task(reward), geometry=GEOMETRY)
    run = PathwiseSearch(policy, Imagination(task, sample, 4, False, "torch", **kwargs), config, gen())
    run.record = record
    return run


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, initial_reward_power=0.5)], ids=["plain", "powers"])
def test_a_recorded_search_is_the_same_search(config):
    plain, recorded = search(config=config).run(None), search(config=config, record=call_again).run(None)
    torch.testing.assert_close(recorded.params, plain.params, rtol=1e-4, atol=1e-5)
    assert recorded.returns == pytest.approx(plain.returns, rel=1e-4)


def test_new_draws_and_random_numbers_are_copied_in_and_nothing_is_recorded_anew():
    recordings = []

    def spy(function):
        recordings.append(1)
        return call_again(function)

    search(record=spy).run(None)
    assert len(recordings) == 2  # all candidates, and the survivors; six draws in between


def test_candidates_that_stay_bad_start_afresh_in_a_recorded_search_too():
    def broken(state, action, next_state, xp):
        value = reward(state, action, next_state, xp)
        where = torch.zeros_like(value, dtype=torch.bool)
        where[:, 0] = value.requires_grad
        return value * xp.where(where, math.nan, 1.0)

    config = replace(CONFIG, steps=40, screening_steps=40)
    report = search(broken, config, call_again).run(None)
    assert report.bad_rollouts == 40
    assert report.restarts == 1
    assert torch.isfinite(report.params).all()


def test_what_cannot_be_recorded_is_searched_without_and_said():
    def refuse(function):
        function()
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.warns(UserWarning, match="cannot be recorded.*not permitted"):
        report = search(record=refuse).run(None)
    plain = search().run(None)
    assert torch.equal(report.params, plain.params)  # the failed attempt left no trace


def test_a_recording_puts_back_what_its_first_calls_changed():
    total = torch.zeros(())

    def add(inputs, numbers):
        total.add_(inputs[0] * numbers["scale"])
        return total.clone()

    recording = Recording(add, (torch.tensor(2.0),), {"scale": 1.0}, [total], CPU, call_again)
    assert total == 0
    assert recording((torch.tensor(3.0),), {"scale": 2.0}) == 6
    assert recording((torch.tensor(1.0),), {"scale": 1.0}) == 7


@dataclass(frozen=True)
class Pair:
    a: torch.Tensor
    b: tuple


def test_trees_of_tensors():
    def tree(value=1.0, size=3, flag=True):
        return {"x": Pair(torch.full((size,), value), (flag, [torch.zeros(2)], None))}

    one = tree()
    copy = duplicate(one)
    assert copy["x"].a is not one["x"].a
    assert same_shape(copy, tree(5.0))
    assert not same_shape(copy, tree(size=4))
    assert not same_shape(copy, tree(flag=False))
    fill(copy, tree(5.0))
    assert copy["x"].a.tolist() == [5.0] * 3
    assert one["x"].a.tolist() == [1.0] * 3


def test_searches_on_a_cpu_are_not_recorded():
    policy = make_policy("mlp", {"hidden": (8,)}, GEOMETRY, LOW, HIGH, torch.ones(2))
    run = PathwiseSearch(policy, Imagination(make_task(), sample, 4, False), CONFIG, gen())
    assert run.record is None


@pytest.fixture
def cuda(monkeypatch):
    """What ``cuda_graph`` asks of torch.cuda, on a CPU: the device, stream and mode that a function is called in."""
    now = SimpleNamespace(device=None, stream="main", mode="default")

    @contextmanager
    def entered(name, value):
        before = getattr(now, name)
        setattr(now, name, value)
        try:
            yield
        finally:
            setattr(now, name, before)

    @contextmanager
    def graph(_, stream):
        before, now.stream = now.stream, "recording"
        yield
        now.stream = before  # not where the recording failed, as in torch

    class Stream(str):
        def wait_stream(self, _):
            pass

    now.stream = Stream("main")
    fakes = {
        "device": lambda device: entered("device", device),
        "stream": lambda stream: entered("stream", stream),
        "current_stream": lambda: now.stream,
        "Stream": lambda: Stream("side"),
        "CUDAGraph": lambda: SimpleNamespace(replay=None),
        "graph": graph,
        "get_sync_debug_mode": lambda: now.mode,
        "set_sync_debug_mode": lambda mode: setattr(now, "mode", mode),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return now


def test_a_graph_is_recorded_on_the_device_that_is_asked_for_after_a_call_that_may_not_wait(cuda):
    calls = []
    cuda_graph(lambda: calls.append((cuda.device, str(cuda.stream), cuda.mode)), torch.device("cuda:1"))
    second = torch.device("cuda:1")
    warm = [(second, "side", "default"), (second, "side", "default"), (second, "side", "error")]
    assert calls == [*warm, (second, "recording", "default")]
    assert (cuda.device, cuda.stream, cuda.mode) == (None, "main", "default")


@pytest.mark.parametrize("fails", [3, 4])
def test_a_recording_that_fails_leaves_device_stream_and_mode_as_they_were(cuda, fails):
    calls = []

    def function():
        calls.append(1)
        if len(calls) == fails:
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        cuda_graph(function, torch.device("cuda:1"))
    assert (cuda.device, cuda.stream, cuda.mode) == (None, "main", "default")


def test_a_search_is_recorded_where_its_random_numbers_are():
    policy = make_policy("mlp", {"hidden": (8,)}, GEOMETRY, LOW, HIGH, torch.ones(2))
    generator = SimpleNamespace(device=torch.device("cuda:1"))
    run = PathwiseSearch(policy, Imagination(make_task(), sample, 4, False), CONFIG, generator)
    assert (run.record.func, run.record.keywords) == (cuda_graph, {"device": torch.device("cuda:1")})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_give_the_same_search():
    device, found = torch.device("cuda"), []
    for record in (None, cuda_graph):
        low, high, ones = LOW.to(device), HIGH.to(device), torch.ones(2, device=device)
        policy = make_policy("mlp", {"hidden": (8,)}, GEOMETRY, low, high, ones)

        def on_device(generator):
            draw = sample(gen(int(torch.randint(10**6, (), generator=generator, device=device))))
            stack = draw.functions.stack
            moved = replace(stack, weights=tuple(w.to(device) for w in stack.weights),
                            biases=tuple(b.to(device) for b in stack.biases))  # fmt: skip
            functions = replace(draw.functions, stack=moved, noise=draw.functions.noise.to(device))
            return replace(draw, functions=functions, stepping=draw.stepping.to(device))

        task = replace(make_task(), geometry=GEOMETRY)
        generator = torch.Generator(device).manual_seed(0)
        run = PathwiseSearch(policy, Imagination(task, on_device, 4, False), CONFIG, generator)
        run.record = record
        found.append(run.run(None))
    torch.testing.assert_close(found[0].params, found[1].params, rtol=1e-3, atol=1e-4)
