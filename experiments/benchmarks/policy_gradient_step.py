"""Time one policy-gradient step beside its floor: the same matrix products alone, same core, same run.

    python experiments/benchmarks/policy_gradient_step.py [--engines fused torch] [--repeats 30]

A step is what the policy search does: draw the noise, roll all particles out, sum the rewards, differentiate, clip,
and update by Adam. The networks are tanh, propagation is tsinf, the policy an MLP of 2x48, adjoints are damped as by
default. The floor multiplies matrices of the same shapes through torch into preallocated outputs: for each time step
the model's layers forward and backward to their inputs, the policy's layers forward, backward to their inputs and to
their weights. Fixed costs below the size of a product (call overhead) are part of both sides.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from dynapilco.core.seeding import torch_generator
from dynapilco.dynamics import DynamicsConfig, DynamicsModel, Transitions
from dynapilco.inference import make_method
from dynapilco.policies import make_policy
from dynapilco.rollout import fused
from dynapilco.search import Imagination, PathwiseSearch, SearchConfig
from dynapilco.tasks import make_env, task_of

CASES = (
    ("10x40x60x(2x200)", 10, 40, 60, 200),
    ("10x16x60x(2x64)", 10, 16, 60, 64),
    ("10x10x25x(2x200)", 10, 10, 25, 200),
)
POLICY_HIDDEN = (48, 48)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=["fused", "torch"], choices=["fused", "torch"])
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, median (smallest-largest) of {arguments.repeats}, milliseconds")
    print(
        f"{'draws x particles x horizon x hidden':38s} {'engine':6s} {'step':>22s} {'floor':>22s} {'step/floor':>10s}"
    )
    for name, draws, particles, horizon, width in CASES:
        for engine in arguments.engines:
            if engine == "fused" and not fused.available():
                print(f"{name:38s} fused  not available: {fused.unavailable_reason()}")
                continue
            step, floor = make_step(draws, particles, horizon, width, engine), make_floor(draws, particles, width)
            times = interleaved(step, lambda n=horizon, f=floor: repeat(f, n), arguments.repeats)
            ratio = statistics.median(times[0]) / statistics.median(times[1])
            print(f"{name:38s} {engine:6s} {spread(times[0]):>22s} {spread(times[1]):>22s} {ratio:10.2f}")


def interleaved(a: Callable[[], object], b: Callable[[], object], repeats: int) -> tuple[list[float], list[float]]:
    """Time two functions in turn, so that a slow moment of the machine hits both; milliseconds."""
    for function in (a, b, a, b):
        function()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, kept in zip((a, b), times, strict=True):
            clock = time.perf_counter()
            function()
            kept.append(1e3 * (time.perf_counter() - clock))
    return times


def repeat(function: Callable[[], None], times: int) -> None:
    """Call ``function`` so many times."""
    for _ in range(times):
        function()


def spread(times: list[float]) -> str:
    """``median (smallest-largest)``."""
    return f"{statistics.median(times):.1f} ({min(times):.1f}-{max(times):.1f})"


def make_step(draws: int, particles: int, horizon: int, width: int, engine: str) -> Callable[[], object]:
    """One step of the policy search on a model fitted (briefly) to a few transitions of the cart-pole."""
    task = task_of(make_env("dynapilco/CartPoleSwingUp-v0"))
    task = type(task)(**{**vars(task), "horizon": horizon})
    generator = torch_generator(0, "benchmark")
    config = DynamicsConfig(hidden=(width, width), targets="velocity")
    method = make_method("ensemble", {"members": draws, "cold_steps": 20})
    model = DynamicsModel(task.geometry, config, method, torch.device("cpu"))
    states = torch.randn(60, 4, generator=generator)
    moved = states + 0.1 * torch.randn(60, 4, generator=generator)
    actions = torch.randn(60, 1, generator=generator)
    model.fit(Transitions(states, actions, moved, torch.zeros(60), torch.zeros(60, dtype=torch.int64)), generator)
    low, high = torch.as_tensor(task.low), torch.as_tensor(task.high)
    policy = make_policy("MlpPolicy", {"hidden": list(POLICY_HIDDEN)}, task.geometry, low, high, torch.ones(4))
    imagination = Imagination(task, lambda g: model.draw(draws, g), particles, False, engine)
    search = PathwiseSearch(policy, imagination, SearchConfig(redraw_every=10**9), generator)
    search.begin(None, fresh=1)
    counter = iter(range(1, 10**9))
    return lambda: search.step(next(counter))


def make_floor(draws: int, particles: int, width: int) -> Callable[[], None]:
    """The products of one time step, with preallocated outputs."""
    generator = torch_generator(0, "floor")
    rows = draws * particles

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    calls: list[tuple[Callable[..., Tensor], Tensor, Tensor, Tensor]] = []
    for a, b in pairwise((7, width, width, 2)):
        x, w, g = normal(draws, particles, a), normal(draws, a, b), normal(draws, particles, b)
        calls.append((torch.bmm, x, w, torch.empty(draws, particles, b)))
        calls.append((torch.bmm, g, w.transpose(1, 2), torch.empty(draws, particles, a)))
    for a, b in pairwise((6, *POLICY_HIDDEN, 1)):
        x, w, g = normal(rows, a), normal(a, b), normal(rows, b)
        calls.append((torch.mm, x, w, torch.empty(rows, b)))
        calls.append((torch.mm, g, w.T, torch.empty(rows, a)))
        calls.append((torch.mm, x.T, g, torch.empty(a, b)))

    def products() -> None:
        for multiply, left, right, out in calls:
            multiply(left, right, out=out)

    return products


if __name__ == "__main__":
    main()
