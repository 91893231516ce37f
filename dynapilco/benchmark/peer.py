"""prob_mbrl's policy search beside our step: same particles, horizon, widths, activation and threads, taking turns.

prob_mbrl (https://github.com/mcgillmrl/prob_mbrl) is the Deep PILCO port whose iteration is nearest to our step:
rollout of particles through a Bayesian network, backward, clip, Adam. It runs in a process of its own
(``peer_worker.py``) from a checkout that the user names, so that neither its global seeds nor what it needs of older
libraries reaches ours.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from dynapilco.benchmark.gradient_step import StepCase
from dynapilco.benchmark.timing import interleaved
from dynapilco.core.errors import UserError

EXPECTED = "expected a git checkout of https://github.com/mcgillmrl/prob_mbrl"
FILES = "prob_mbrl/__init__.py", "prob_mbrl/algorithms/mc_pilco.py"
WARM_UP = 5
LEAST_REPEATS = 20
"""Below it a median beside another process says little."""
PATIENCE_S = 5.0
"""Seconds a process has to end by itself."""
DIFFERENCES = (
    "prob_mbrl does otherwise: one model with concrete dropout, a mask for each particle, and gradients of its weights "
    "too; a policy with dropout and Gaussian output; the same random numbers at every iteration; undamped adjoints; "
    "its own cart-pole and reward; moment matching of states and rewards, off and on as in its two examples. "
    "Set as in ours: tanh (its examples: ReLU). Left out: its progress bar."
)


@dataclass(frozen=True)
class Turns:
    """Milliseconds of our steps, and of the iterations of each peer: one of each every round."""

    ours: list[float]
    peers: list[list[float]]

    def ratio(self, index: int) -> float:
        """A peer's time over ours: the median of the rounds' ratios, since a busy moment slows a whole round."""
        return statistics.median(p / o for p, o in zip(self.peers[index], self.ours, strict=True))


class Peer:
    """A policy search by prob_mbrl in a process of its own, which does one iteration at a time; close it.

    Parameters
    ----------
    checkout : Path
        Has passed :func:`check_checkout`.
    case : StepCase
        The size; its functions times particles are prob_mbrl's particles, each with a dropout mask of its own.
    moment_matching : bool
        Of states and rewards.
    threads : int
        Of torch.

    Raises
    ------
    UserError
        Where it cannot be imported, or its first iteration fails.
    """

    def __init__(self, checkout: Path, case: StepCase, moment_matching: bool, threads: int) -> None:
        self.checkout, self.moment_matching = checkout, moment_matching
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close())
        size = {
            "checkout": str(checkout.resolve()),
            "particles": case.draws * case.particles,
            "horizon": case.horizon,
            "hidden": case.hidden,
            "policy": case.policy,
            "moment_matching": moment_matching,
            "threads": threads,
        }
        self._process = start_worker(json.dumps(size), threads, self._log)
        try:
            self._answer()  # of an iteration that it does unasked: it works
        except BaseException:
            self.close()
            raise

    def iterate(self) -> float:
        """Do one more iteration; its milliseconds, measured over there."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, which the missing answer tells
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return float(json.loads(line))
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines() or [f"exit code {code}"]
        raise UserError(f"peer_path={str(self.checkout)!r} does not run: {said[-1].strip()}; {EXPECTED}")


def start_worker(size: str, threads: int, log: IO[str]) -> subprocess.Popen[str]:
    """Start ``peer_worker.py`` on a size given as JSON."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    # Its progress bar would be part of its time; a figure's window would be nobody's.
    quiet = {"TQDM_DISABLE": "1", "MPLBACKEND": "Agg"}
    # -B: nothing is written into the checkout. -P: modules beside the worker are not in the way of the peer's imports.
    command = [sys.executable, "-B", "-P", str(Path(__file__).with_name("peer_worker.py")), size]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, **counts, **quiet},
    )


def check_checkout(checkout: Path) -> None:
    """Refuse a path that is no checkout of prob_mbrl.

    Raises
    ------
    UserError
        Where it does not exist, or the files of prob_mbrl are not in it.
    """
    if not checkout.is_dir():
        what = "is not a folder" if checkout.exists() else "does not exist"
        raise UserError(f"peer_path={str(checkout)!r} {what}: {EXPECTED}")
    missing = [name for name in FILES if not (checkout / name).is_file()]
    if missing:
        raise UserError(f"peer_path={str(checkout)!r} has no {missing[0]}: {EXPECTED}")


@contextmanager
def open_peers(checkout: Path, case: StepCase, device: torch.device, threads: int) -> Iterator[list[Peer]]:
    """prob_mbrl without and with moment matching, started and found to work; ended afterwards.

    Parameters
    ----------
    checkout : Path
    case : StepCase
    device : torch.device
        Where our step runs: a CPU, since prob_mbrl runs on one here.
    threads : int

    Raises
    ------
    UserError
        For another device, and as :func:`check_checkout` and :class:`Peer` do.
    """
    if device.type != "cpu":
        raise UserError(f"peer_path={str(checkout)!r} with device={str(device)!r}: expected device='cpu' beside a peer")
    check_checkout(checkout)
    with ExitStack() as stack:
        peers: list[Peer] = []
        for moment_matching in (False, True):
            peers.append(Peer(checkout, case, moment_matching, threads))
            stack.callback(peers[-1].close)
        yield peers


def take_turns(step: Callable[[], object], peers: Sequence[Peer], repeats: int) -> Turns:
    """Our step and an iteration of each peer in turn, ``repeats`` times but at least 20, after 5 rounds of warm-up."""
    turns = Turns([], [[] for _ in peers])
    for index in range(WARM_UP + max(repeats, LEAST_REPEATS)):
        ours = interleaved([step], 1, torch.device("cpu"), warm_up=0)[0]
        theirs = [peer.iterate() for peer in peers]
        if index >= WARM_UP:
            turns.ours.extend(ours)
            for kept, milliseconds in zip(turns.peers, theirs, strict=True):
                kept.append(milliseconds)
    return turns
