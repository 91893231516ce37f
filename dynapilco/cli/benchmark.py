"""``dynapilco benchmark``: what this machine gives, as ratios to floors that are measured in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dynapilco.cli.options import parse
from dynapilco.core.errors import UserError
from dynapilco.tracking.console import make_console

if TYPE_CHECKING:
    import torch

PROG = "dynapilco benchmark"
DESCRIPTION = """Time a policy-gradient step, a model fit, and particle-steps, beside floors measured in the same run.

Quiet machines give steady ratios: stop other work first. It takes about a minute.

examples:
  dynapilco benchmark
  dynapilco benchmark --repeats 100
  dynapilco benchmark --device cuda"""

MOST_THREADS = 1_024
PARTICLES_ON_CPU = 4_096
"""Larger clouds take minutes and gigabytes on a CPU."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to measure."""

    device: str = "cpu"
    """'cpu', 'cuda', 'cuda:1', ..."""
    threads: int = 1
    """Threads of torch on a CPU; the compiled kernel always takes one."""
    repeats: int = 30
    """Repetitions of each step; medians are shown, with the smallest and the largest."""


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = parse(BenchmarkOptions, words, PROG, DESCRIPTION)
    for name, most in (("threads", MOST_THREADS), ("repeats", None)):
        value = getattr(options, name)
        if value < 1 or (most is not None and value > most):
            raise UserError(f"{name}={value!r}: expected at least 1" + (f" and at most {most}" if most else ""))
    import torch

    from dynapilco.core.device import resolve_device

    device, console = resolve_device(options.device), make_console()
    torch.set_num_threads(options.threads)
    console.print(f"torch {torch.__version__}, {device}, {options.threads} thread(s); milliseconds: median (range)")
    print_steps(console, device, options.repeats)
    print_fits(console, device)
    print_particles(console, device)
    return 0


def print_steps(console: Console, device: torch.device, repeats: int) -> None:
    """The policy-gradient step of each size by each engine."""
    from dynapilco.benchmark import STEP_CASES, time_step
    from dynapilco.rollout import fused

    fast = device.type == "cpu" and fused.available()
    if device.type == "cpu" and not fast:
        console.print(f"no compiled kernel: {fused.unavailable_reason()}")
    table = table_of(
        "policy-gradient step: draws x particles x horizon", "engine", "step", "floor", "step / floor", "goal"
    )
    for case in STEP_CASES:
        for engine in ("fused", "torch") if fast else ("torch",):
            step, floor = time_step(case, engine, device, repeats)
            ratio = statistics.median(step) / statistics.median(floor)
            goal = "" if case.goal is None else f"{case.goal:.1f}"
            table.add_row(case.name, engine, spread(step), spread(floor), f"{ratio:.2f}", goal)
    console.print(table)


def print_fits(console: Console, device: torch.device) -> None:
    """The model fits."""
    from dynapilco.benchmark.model_fit import FITS, ROWS, time_fit

    table = table_of(f"model fit, {ROWS} transitions", "seconds", "loss", "plain torch, seconds", "loss", "ratio")
    for fit in FITS:
        found = time_fit(*fit, device)
        cells = [f"{found.seconds:.2f}", f"{found.loss:.3f}", "", "", ""]
        if found.reference_seconds is not None:
            ratio = found.seconds / found.reference_seconds
            cells[2:] = f"{found.reference_seconds:.2f}", f"{found.reference_loss:.3f}", f"{ratio:.2f}"
        table.add_row(found.name, *cells)
    console.print(table)


def print_particles(console: Console, device: torch.device) -> None:
    """Particle-steps a second, beside the ceilings of the device."""
    from dynapilco.benchmark import measure_ceilings, particle_rates
    from dynapilco.benchmark.particles import PARTICLES

    ceilings = measure_ceilings(device)
    title = f"particles x 60 steps, 2x200 (products at best {ceilings.flops / 1e9:.0f} GFLOP/s, copies "
    table = table_of(
        title + f"{ceilings.bytes / 1e9:.0f} GB/s)", "forward, million/s", "gradient, million/s", "of products"
    )
    for particles in PARTICLES:
        if device.type == "cpu" and particles > PARTICLES_ON_CPU:
            continue
        rates = particle_rates(particles, device)
        share = f"{100 * rates.operations() / ceilings.flops:.0f} %"
        table.add_row(f"{rates.particles:,}", f"{rates.forward / 1e6:.2f}", f"{rates.gradient / 1e6:.2f}", share)
    console.print(table)


def table_of(first: str, *others: str) -> Table:
    """An empty table; columns but the first are numbers."""
    table = Table()
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def spread(times: Sequence[float]) -> str:
    """``median (smallest-largest)``."""
    return f"{statistics.median(times):.1f} ({min(times):.1f}-{max(times):.1f})"
