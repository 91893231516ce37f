"""The process in which a checkout of prob_mbrl iterates: started by ``peer.py``, with what to build as JSON.

It takes turns: a line on standard input asks for one more iteration, a line on standard output answers with its
milliseconds. Nothing of prob_mbrl is rewritten: its ``mc_pilco`` runs, its callback ends a turn. It imports nothing of
dynapilco, and draws from torch's global generator as prob_mbrl does, which is why it is a process of its own.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import gymnasium
import gymnasium.utils.seeding
import torch

DROPOUT = 0.1
ROWS = 156
RESAMPLING_PERIOD = 499
"""These three are the defaults of prob_mbrl's example scripts, or the size of their first data set."""
STATES, ACTIONS, FORCE, POLE = 5, 1, 10.0, 0.5
"""Its cart-pole: the angle as sine and cosine."""
PARTS = "algorithms", "models", "envs.cartpole", "utils"
ENDLESS = 10**9
OLD_NAMES: tuple[tuple[Any, str, Any], ...] = (
    (collections, "Iterable", collections.abc.Iterable),
    (torch.Tensor, "cholesky", torch.linalg.cholesky),
)
"""Names that it uses and that Python has dropped, or torch says it will."""


class Stub(ModuleType):
    """A module in which every public name is an empty class: enough to import what is never used here."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("_"):
            raise AttributeError(name)
        return type(name, (), {})


class Turns:
    """The callback after each iteration: tell how long it took, then wait for the next order.

    Parameters
    ----------
    horizon : int
        Steps that each rollout must have.
    orders, answers : file
    """

    def __init__(self, horizon: int, orders: TextIO, answers: TextIO) -> None:
        self.horizon, self.orders, self.answers = horizon, orders, answers
        self.start = time.perf_counter()

    def __call__(self, index: int, loss: Any, states: Any, actions: Any, rewards: Any, discount: Any) -> None:
        """End a turn; raises where the iteration was cut short or ended in NaN, which would be no fair time."""
        milliseconds = 1e3 * (time.perf_counter() - self.start)
        if len(rewards) != self.horizon or not math.isfinite(float(loss)):
            raise ValueError(f"iteration {index}: loss {float(loss)} after {len(rewards)} of {self.horizon} steps")
        print(json.dumps(milliseconds), file=self.answers, flush=True)
        if not self.orders.readline():
            raise SystemExit(0)
        self.start = time.perf_counter()


def main(words: list[str]) -> None:
    """Import prob_mbrl, build, and iterate until standard input ends."""
    size = json.loads(words[0])
    # prob_mbrl prints; answers must stay alone on standard output.
    answers, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(size["threads"])
    torch.set_flush_denormal(True)  # as its example scripts do
    with shims(), importable(Path(size["checkout"])):
        search(size, Turns(size["horizon"], sys.stdin, answers))


@contextmanager
def shims() -> Iterator[None]:
    """What prob_mbrl (2021) expects of Python, torch and gym, for a while; names that still exist are left alone."""
    missing = [(owner, name, value) for owner, name, value in OLD_NAMES if not hasattr(owner, name)]
    modules = {name: module for name, module in stand_ins().items() if name not in sys.modules}
    for owner, name, value in missing:
        setattr(owner, name, value)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)
        for owner, name, _ in missing:
            delattr(owner, name)


def stand_ins() -> dict[str, ModuleType]:
    """Modules for imports that prob_mbrl makes for its environments and plots, which are not used here."""
    # gymnasium even where gym is installed: old gym fails beside today's numpy.
    found: dict[str, ModuleType] = {
        "gym": gymnasium,
        "gym.spaces": gymnasium.spaces,
        "gym.utils": gymnasium.utils,
        "gym.utils.seeding": gymnasium.utils.seeding,
    }
    for name in ("Box2D", "joblib"):
        if importlib.util.find_spec(name) is None:
            found[name] = Stub(name)
    if "Box2D" in found:
        found["Box2D.b2"] = Stub("Box2D.b2")
    return found


@contextmanager
def importable(checkout: Path) -> Iterator[None]:
    """The checkout first on the path, for a while."""
    sys.path.insert(0, str(checkout))
    try:
        yield
    finally:
        sys.path.remove(str(checkout))


def search(size: dict[str, Any], turns: Turns) -> None:
    """Run ``mc_pilco`` as its cart-pole examples call it."""
    parts: list[Any] = [importlib.import_module(f"prob_mbrl.{name}") for name in PARTS]
    algorithms, models, envs, utils = parts
    utils.rollout = loud(utils.rollout)
    dynamics, policy = make_dynamics(models, envs, size["hidden"]), make_policy(models, size["policy"])
    start = 0.1 * normal(size["particles"], STATES)
    matching = size["moment_matching"]
    turns.start = time.perf_counter()
    algorithms.mc_pilco(
        start, dynamics, policy, size["horizon"], torch.optim.Adam(policy.parameters(), 1e-3), opt_iters=ENDLESS,
        pegasus=True, mm_states=matching, mm_rewards=matching, maximize=True, clip_grad=1.0,
        resampling_period=RESAMPLING_PERIOD, init_state_noise=1e-2 * start.std(0), on_iteration=turns,
    )  # fmt: skip


def loud(rollout: Callable[..., Any]) -> Callable[..., Any]:
    """The rollout with errors that pass ``mc_pilco``, which prints a RuntimeError and goes on for ever."""

    def rolled(*args: Any, **kwargs: Any) -> Any:
        try:
            return rollout(*args, **kwargs)
        except RuntimeError as error:
            raise ValueError(f"its rollout failed: {error}") from error

    return rolled


def make_dynamics(models: Any, envs: Any, hidden: list[int]) -> Any:
    """Concrete dropout and a Gaussian output, not fitted: small random changes of the state."""
    dropout = [models.modules.CDropout(DROPOUT * torch.ones(width)) for width in hidden]
    net = models.mlp(STATES + ACTIONS, 2 * STATES, hidden, dropout_layers=dropout, nonlin=torch.nn.Tanh)
    reward = envs.CartpoleReward(pole_length=torch.tensor(POLE))
    dynamics = models.DynamicsModel(net, reward_func=reward, output_density=models.DiagGaussianDensity(STATES)).float()
    dynamics.set_dataset(normal(ROWS, STATES + ACTIONS), 0.01 * normal(ROWS, STATES))
    return dynamics


def make_policy(models: Any, hidden: list[int]) -> Any:
    """Dropout and a Gaussian output."""
    dropout = [models.modules.BDropout(DROPOUT) for _ in hidden]
    output = partial(models.DiagGaussianDensity, ACTIONS)
    net = models.mlp(
        STATES, 2 * ACTIONS, hidden, dropout_layers=dropout, nonlin=torch.nn.Tanh, output_nonlin=output
    )  # fmt: skip
    return models.Policy(net, FORCE, -FORCE).float()


def normal(*shape: int) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


if __name__ == "__main__":
    main(sys.argv[1:])
