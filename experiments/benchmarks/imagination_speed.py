"""Time imagination with PETS' network beside the bare matrix products, one thread: ratios within one run.

Times are those of the processor (user and system), which other programs on a busy machine disturb less than the
clock's.

    python experiments/benchmarks/imagination_speed.py [--repeats 15] [--mbrl] [--csv FILE]

The network is an ensemble of 5 members of 4 hidden layers of 200 SiLU units, with 23 inputs and 18 outputs (a
HalfCheetah: 17 columns of state, 6 of action, a learned reward). Two comparisons, each timed in turn so that a slow
moment of the machine hits all of its ways:

    evaluation      350 plans x 20 particles (7,000 rows) x 30 steps
        floor       the products alone, into preallocated outputs
        ours        dynapilco.planning.plan_returns: states, noise, rewards and all (TSinf: a particle keeps its member)
        ours, ts1   the same, where particles change members at every step
        mbrl        mbrl-lib's ModelEnv.evaluate_action_sequences (--mbrl; its network has this shape too; TSinf)

    vector          one step of 4,096 imagined environments
        raw         the model's step on states that lie ready
        gymnasium   LearnedVectorEnv.step, with its noise, rewards and ends; all episodes end in every 30th
        sb3         LearnedVecEnv.step
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from dynapilco.core.seeding import torch_generator
from dynapilco.dynamics import DynamicsConfig, DynamicsModel, Transitions
from dynapilco.dynamics.encoding import Geometry
from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.imagination import LearnedVecEnv, LearnedVectorEnv
from dynapilco.inference import make_method
from dynapilco.planning.config import PlanningConfig
from dynapilco.planning.evaluation import plan_returns
from dynapilco.tasks import ActionCodec, Task

MEMBERS, HIDDEN, STATES, ACTIONS = 5, (200, 200, 200, 200), 17, 6
PLANS, PARTICLES, HORIZON, ENVS = 350, 20, 30, 4096
ROWS = PLANS * PARTICLES
CPU = torch.device("cpu")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--mbrl", action="store_true", help="also time mbrl-lib, which must be importable")
    parser.add_argument("--csv", type=Path, help="write the rows there too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task, draw = make_task(), make_draw()
    print(f"torch {torch.__version__}, one thread; milliseconds, median of {options.repeats} (smallest)")
    rows = [*evaluation(task, draw, options), *vector(task, draw, options)]
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([("part", "way", "median_ms", "smallest_ms", "ratio"), *rows])


# -- what is timed ----------------------------------------------------------------------------------------------------


def evaluation(task: Task, draw: DynamicsDraw, options: argparse.Namespace) -> list[tuple]:
    """Evaluation of plans: the rows of its table."""
    generator = torch_generator(0, "benchmark")
    plans = 2 * torch.rand(PLANS, HORIZON, ACTIONS, generator=generator) - 1
    state = torch.zeros(task.geometry.states)
    tsinf = PlanningConfig(draws=MEMBERS, particles=PARTICLES // MEMBERS, propagation="tsinf")
    ts1 = replace(tsinf, propagation="ts1")
    ways: dict[str, Callable[[], object]] = {
        "floor": floor(draw, ROWS // MEMBERS, HORIZON),
        "ours": lambda: plan_returns(task, draw, state, plans, tsinf, generator),
        "ours, ts1": lambda: plan_returns(task, draw, state, plans, ts1, generator),
    }
    if options.mbrl:
        ways["mbrl"] = of_mbrl(plans)
    medians = table("evaluation", ways, options.repeats, "floor")
    if options.mbrl:
        print(f"    mbrl / ours: {medians['mbrl'][0] / medians['ours'][0]:.2f} per particle-step")
    return rows_of("evaluation", medians, "floor")


def vector(task: Task, draw: DynamicsDraw, options: argparse.Namespace) -> list[tuple]:
    """A step of many environments: the rows of its table."""
    generator = torch_generator(0, "benchmark")
    space = spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
    env = LearnedVectorEnv(task, draw, space, ENVS, 30)
    face = LearnedVecEnv(LearnedVectorEnv(task, draw, space, ENVS, 30))
    actions = np.random.default_rng(0).uniform(-1, 1, (ENVS, ACTIONS)).astype(np.float32)
    each = -(-ENVS // MEMBERS)
    x = 0.1 * torch.randn(1, MEMBERS, each, task.geometry.states, generator=generator)
    u = torch.as_tensor(np.resize(actions, (1, MEMBERS, each, ACTIONS)))
    assert draw.process_std is not None
    noise = torch.randn(1, MEMBERS, each, draw.stepping.outputs, generator=generator) * draw.process_std.unsqueeze(1)

    @torch.no_grad()
    def raw() -> Tensor:
        return draw.step(x, u, noise)

    ways: dict[str, Callable[[], object]] = {
        "raw": raw,
        "gymnasium": lambda: env.step(actions),
        "sb3": lambda: face.step(actions),
    }
    medians = table("vector", ways, options.repeats * 10, "raw")
    more = 1e3 * (medians["sb3"][0] - medians["gymnasium"][0]) / ENVS
    print(f"    sb3 - gymnasium: {more:.3f} microseconds an environment")
    return rows_of("vector", medians, "raw")


def table(part: str, ways: dict[str, Callable[[], object]], repeats: int, base: str) -> dict[str, tuple[float, float]]:
    """Print one table; median and smallest milliseconds of each way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 2):
        for name, way in ways.items():
            clock = time.process_time()
            way()
            if turn >= 2:
                times[name].append(1e3 * (time.process_time() - clock))
    found = {name: (statistics.median(each), min(each)) for name, each in times.items()}
    print(part)
    for name, (median, least) in found.items():
        print(f"    {name:10s} {median:9.2f} ({least:.2f})  {median / found[base][0]:6.2f} x {base}")
    return found


def rows_of(part: str, found: dict[str, tuple[float, float]], base: str) -> list[tuple]:
    """Rows of the file."""
    return [(part, name, f"{m:.3f}", f"{s:.3f}", f"{m / found[base][0]:.3f}") for name, (m, s) in found.items()]


# -- the problem ------------------------------------------------------------------------------------------------------


def make_task() -> Task:
    """A HalfCheetah's shapes, with a learned reward."""
    states = STATES + 1
    return Task(
        geometry=Geometry(states, ACTIONS, unseen=(STATES,)),
        codec=ActionCodec.of(spaces.Box(-1, 1, (ACTIONS,), np.float32)),
        horizon=1000,
        reward=lambda state, action, next_state, xp: next_state[..., STATES],
        success=None,
        start_mean=torch.zeros(states),
        start_std=torch.full((states,), 0.1),
        names=tuple(f"s{i}" for i in range(states)),
        units=("",) * states,
        action_names=tuple(f"u{i}" for i in range(ACTIONS)),
        action_units=("",) * ACTIONS,
        learned=("reward",),
    )


def make_draw() -> DynamicsDraw:
    """The ensemble, barely fitted: its numbers do not matter, its shapes do."""
    task, generator = make_task(), torch_generator(0, "benchmark")
    method = make_method("ensemble", {"members": MEMBERS, "cold_steps": 20})
    model = DynamicsModel(task.geometry, DynamicsConfig(hidden=HIDDEN, activation="silu"), method, CPU)
    x = torch.randn(500, task.geometry.states, generator=generator)
    u = 2 * torch.rand(500, ACTIONS, generator=generator) - 1
    after = 0.95 * x + 0.05 * torch.randn(x.shape, generator=generator)
    model.fit(Transitions(x, u, after, after[:, -1], torch.zeros(500, dtype=torch.int64)), generator)
    return model.draw(MEMBERS, generator)


def floor(draw: DynamicsDraw, each: int, steps: int) -> Callable[[], None]:
    """The network's products alone, (S, each, in) @ (S, in, out), into outputs that are there already."""
    widths = [STATES + ACTIONS, *HIDDEN, draw.stepping.outputs]
    generator = torch_generator(0, "floor")
    weights = [torch.randn(MEMBERS, a, b, generator=generator) for a, b in pairwise(widths)]
    inputs = [torch.randn(MEMBERS, each, width, generator=generator) for width in widths[:-1]]
    outputs = [torch.empty(MEMBERS, each, width) for width in widths[1:]]

    @torch.no_grad()
    def run() -> None:
        for _ in range(steps):
            for x, weight, out in zip(inputs, weights, outputs, strict=True):
                torch.bmm(x, weight, out=out)

    return run


def of_mbrl(plans: Tensor) -> Callable[[], object]:
    """mbrl-lib's evaluation of the same plans, by its own classes with its own defaults."""
    try:
        import gym
        import mbrl.models as models
        import omegaconf
    except ImportError as error:
        sys.exit(f"--mbrl: {error} (pip install --no-deps --target DIR mbrl hydra-core omegaconf ..., PYTHONPATH=DIR)")
    activation = omegaconf.OmegaConf.create({"_target_": "torch.nn.SiLU"})
    network = models.GaussianMLP(
        STATES + ACTIONS, STATES + 1, CPU, num_layers=len(HIDDEN), ensemble_size=MEMBERS, hid_size=HIDDEN[0],
        propagation_method="fixed_model", activation_fn_cfg=activation,
    )  # fmt: skip
    wrapper = models.OneDTransitionRewardModel(network, target_is_delta=True, normalize=True, learned_rewards=True)

    class Env:
        """What ModelEnv asks of an environment."""

        observation_space = gym.spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
        action_space = gym.spaces.Box(-1, 1, (ACTIONS,), np.float32)

    def never(actions: Tensor, states: Tensor) -> Tensor:
        return torch.zeros(len(states), 1, dtype=torch.bool)

    env = models.ModelEnv(Env(), wrapper, never, None, torch.Generator().manual_seed(0))  # pyright: ignore
    start = np.zeros(STATES, np.float32)
    return lambda: env.evaluate_action_sequences(plans, start, PARTICLES)


if __name__ == "__main__":
    main()
