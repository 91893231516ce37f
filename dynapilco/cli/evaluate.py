"""``dynapilco evaluate``: fresh episodes with the policy of a run. It writes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

from dynapilco.agent.config import acting_name
from dynapilco.cli.options import parse
from dynapilco.cli.statistics import count_successes, mean_interval, wilson_interval
from dynapilco.core.errors import UserError
from dynapilco.tracking.console import make_console

if TYPE_CHECKING:
    from dynapilco.agent import Evaluation

PROG = "dynapilco evaluate"
DESCRIPTION = """Run fresh episodes with the policy of a run, and summarise them. The run is not changed.

examples:
  dynapilco evaluate runs/NAME
  dynapilco evaluate runs/NAME --episodes 100"""


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate, and how long."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """A run directory, or a folder written by save()."""
    episodes: int = 20
    """Number of episodes; their seeds derive from the seed of the run."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', ..."""
    threads: int = 1
    """Threads of torch; for products as small as these one is fastest."""


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = parse(EvaluateOptions, words, PROG, DESCRIPTION)
    for name in ("episodes", "threads"):
        if getattr(options, name) < 1:
            raise UserError(f"{name}={getattr(options, name)!r}: expected at least 1")
    if not options.run_dir.exists():
        raise UserError(f"run_dir={str(options.run_dir)!r} does not exist: expected the folder of a run")
    import torch

    from dynapilco.agent import DynaPILCO

    torch.set_num_threads(options.threads)
    agent = DynaPILCO.load(options.run_dir, device=options.device)
    result, whose = agent.evaluate(options.episodes), acting_name(agent.config.controller, agent.delivered_trial)
    console = make_console()
    console.print(f"{agent.config.env_id}, {whose}, {len(result.returns)} fresh episodes", soft_wrap=True)
    console.print(evaluation_table(result))
    return 0


def evaluation_table(result: Evaluation) -> Table:
    """Returns and successes of an evaluation, with their intervals."""
    episodes, table = len(result.returns), Table()
    for heading in ("", "value", "95 % interval"):
        table.add_column(heading, justify="right" if heading else "left")
    mean, low, high = mean_interval(result.returns)
    table.add_row("mean return", f"{mean:.2f}", "" if math.isnan(low) else f"{low:.2f} to {high:.2f}")
    table.add_row("lowest, highest return", f"{min(result.returns):.2f}, {max(result.returns):.2f}", "")
    if result.successes is not None:
        low, high = wilson_interval(sum(map(bool, result.successes)), episodes)
        table.add_row("successes", count_successes(result.successes), f"{100 * low:.0f} % to {100 * high:.0f} %")
    return table
