"""``dynapilco list``: every part that a word selects, with a line about each."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from dynapilco.agent.config import CONTROLLERS, EXPLORATIONS
from dynapilco.cli.describe import described
from dynapilco.cli.options import parse, summary_line
from dynapilco.core.registry import Registry
from dynapilco.inference import METHODS
from dynapilco.inference.matrix import supported
from dynapilco.policies import POLICIES
from dynapilco.rollout.config import PROPAGATIONS
from dynapilco.tracking.console import make_console

PROG = "dynapilco list"
DESCRIPTION = """Show environments, inference methods, policies, propagations and explorations.

examples:
  dynapilco list
  dynapilco list --inference laplace    # architectures, priors and likelihoods that a method takes
  dynapilco list --env-id CartPole-v1   # what is understood of an environment, before training in it"""


@dataclass(frozen=True)
class ListOptions:
    """What to show."""

    inference: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """An inference method: show what it takes instead."""
    env_id: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    """Any Gymnasium id, also 'module:id': show what is understood of it instead."""


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = parse(ListOptions, words, PROG, DESCRIPTION)
    console = make_console()
    if options.inference is not None:
        return _show_method(console, options.inference)
    if options.env_id is not None:
        _section(console, options.env_id, described(options.env_id))
        return 0
    _section(console, "environments (--env-id)", environments())
    _section(console, "inference methods (--inference)", registered(METHODS, of_module=True))
    _section(console, "policies (--policy)", registered(POLICIES))
    _section(console, "controllers (--controller)", CONTROLLERS.items())
    _section(console, "propagations (--rollout.propagation)", PROPAGATIONS.items())
    _section(console, "explorations (--exploration.kind)", EXPLORATIONS.items())
    return 0


def _show_method(console: Console, name: str) -> int:
    """What a method takes, one section a kind of part; refusals with their reason."""
    rows = supported(name)
    console.print(f"{name}, with its default options:\n")
    for part in dict.fromkeys(row.part for row in rows):
        lines = [(row.name, "yes" if row.reason is None else f"no: {row.reason}") for row in rows if row.part == part]
        _section(console, f"{part}s", lines)
    return 0


def environments() -> list[tuple[str, str]]:
    """The ids of this project's environments; any other Gymnasium id with box observations is as good."""
    from dynapilco_envs import TASKS

    return [(f"dynapilco/{task.__name__}-v0", _describe(task)) for task in TASKS]


def registered(registry: Registry[type], of_module: bool = False) -> list[tuple[str, str]]:
    """Names (and aliases) of a registry, each with the first line of the docstring of its class or module."""
    rows = []
    for name, cls in registry.items():
        text = summary_line(sys.modules[cls.__module__] if of_module else cls) or summary_line(cls)
        rows.append((", ".join([name, *registry.aliases_of(name)]), text))
    return rows


def _describe(task: type) -> str:
    own = summary_line(task)
    return summary_line(sys.modules[task.__module__]) if "see the module" in own else own


def _section(console: Console, title: str, rows: Iterable[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    for name, text in rows:
        table.add_row(f"  {name}", text)
    console.print(table)
    console.print()
