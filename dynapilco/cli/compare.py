"""``dynapilco compare``: seeds x methods x tasks as resumable jobs, then tables and sentences."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from dynapilco.agent.config_file import read_toml
from dynapilco.cli.options import field_helps, option_name, option_names, parse, to_values
from dynapilco.cli.train_options import COMPARE_TABLE, RunOptions, parse_train
from dynapilco.compare.comparison import DEFAULT_OUT, Comparison, execute
from dynapilco.compare.pool import Pool
from dynapilco.compare.settings import Request, build_settings
from dynapilco.core.errors import UserError
from dynapilco.tracking.console import make_console

PROG = "dynapilco compare"
DESCRIPTION = """Train every method on every task with every seed, and compare.

Each run is "dynapilco train" in a process of its own, with one thread; it lands in OUT/runs/TASK/METHOD/seed-N.
A run that fails is recorded with its traceback, and the rest go on. When all are through, a table for each task
and sentences are printed; OUT/runs.csv and OUT/trials.csv hold the figures.

notes:
  What is interrupted or has failed goes on with the same command and --resume, or with --resume --out DIR alone.
  All other options go to "dynapilco train" (see its --help), for every run, also after "--".
  A file may hold a table [compare] with the options of this help as keys, e.g. seeds = 10, and tables
  [compare.inference_kwargs.NAME] and [compare.baseline_kwargs.NAME] with options of one method. A table
  [compare.variants.NAME] adds a method of any other settings: inference = "swag", inference_kwargs = {rank = 5}.
  Scores of several tasks are put together on a normalised scale where every task has anchors; [compare.anchors] gives
  them: "me/Tank-v0" = [score that counts 0, score that counts 1].
  Videos are left out unless --video is given.

examples:
  dynapilco compare --inference random_features ensemble mc_dropout --seeds 10 --jobs 2
  dynapilco compare --config experiments/compare.toml --jobs 2 --out runs/compare
  dynapilco compare --resume --out runs/compare --jobs 4
  dynapilco compare --inference ensemble swag --seeds 5 --trials 4 --baselines sac --baseline-budget 1 100
  dynapilco compare --inference ensemble --imagined sac --baselines sac --seeds 10
  dynapilco compare --inference ensemble --seeds 3 --out runs/small -- --search.steps 100 --dynamics.hidden 64 64
  dynapilco compare --config experiments/compare.toml --backend ray --address 10.0.0.1:6379 --jobs 64"""

METAVARS = {
    "env_id": "ID [ID ...]", "inference": "NAME [NAME ...]", "seeds": "N [N ...]", "baselines": "NAME [NAME ...]",
    "imagined": "NAME [NAME ...]",
    "baseline_budget": "TIMES [TIMES ...]", "baseline_seeds": "N [N ...]", "first_seed": "N", "trials": "N",
    "config": "FILE.toml", "out": "DIR", "address": "HOST:PORT",
}  # fmt: skip
OWN: list[tuple[str, Any, Any, str]] = [
    ("config", Path | None, None, "TOML file with the settings of the runs, and a table [compare]."),
    ("out", Path, DEFAULT_OUT, "Folder of the comparison, new or empty unless --resume or --force."),
    ("resume", bool, False, "Run what is missing or failed, and nothing that is done."),
    ("force", bool, False, "Delete the comparison in the folder and begin again."),
]
TABLES = ("inference_kwargs", "baseline_kwargs", "variants", "anchors")
"""Parts of a request that only a file can hold."""
OF_A_RUN = ("config", "out", "resume", "threads", "seed", "env-id", "inference")
"""Options of ``train`` that the comparison sets itself."""
INTERRUPTED = 130


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code: 1 where a run failed."""
    own, train = split(words)
    options = dict(to_values(parse(options_type(), own, PROG, DESCRIPTION)))
    request = Request(**{f.name: options[f.name] for f in fields(Request) if f.name in options})
    pool = Pool(**{f.name: options[f.name] for f in fields(Pool) if f.name in options})
    settings_words, run_words = _sort(train)
    file = read_toml(options["config"]) if "config" in options else {}
    alone = options["resume"] and request == Request() and not settings_words and "config" not in options
    settings = None if alone else _settings(request, file, settings_words)
    if "--video" not in run_words and "--no-video" not in run_words:
        run_words = [*run_words, "--no-video"]
    command, out = ["dynapilco", "compare", *words], options["out"]
    try:
        console = make_console()
        found = execute(settings, out, pool, options["resume"], options["force"], run_words, command, console)
    except KeyboardInterrupt:
        line = f"dynapilco compare --resume --out {shlex.quote(str(out))}"
        print(f"interrupted: what is done is kept; go on with: {line}", file=sys.stderr)
        return INTERRUPTED
    return _exit_code(found)


def _exit_code(found: Comparison) -> int:
    return 0 if found.complete else 1


def options_type() -> type:
    """One flat dataclass for tyro: what is compared, the folder, and where jobs run."""
    specs: list[Any] = []
    for cls in (Request, None, Pool):
        if cls is None:
            specs += [_spec(name, hint, default, text) for name, hint, default, text in OWN]
            continue
        helps, hints = field_helps(cls), get_type_hints(cls)
        defaults = [(f.name, hints[f.name], f.default) for f in fields(cls) if f.name not in TABLES]
        specs += [_spec(name, hint, default, helps[name]) for name, hint, default in defaults]
    return make_dataclass("Compare", specs, frozen=True)


def _spec(name: str, hint: Any, default: Any, text: str) -> tuple[str, Any, Any]:
    return name, Annotated[hint, tyro.conf.arg(help=text, metavar=METAVARS.get(name))], field(default=default)


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The comparison's own options, and those of ``dynapilco train``: what is not known here, and all after ``--``.

    Raises
    ------
    UserError
        For an option of ``train`` that the comparison sets itself.
    """
    names = {*option_names(options_type()), "help"}
    own: list[str] = []
    train: list[str] = []
    now = own
    for i, word in enumerate(words):
        if word == "--":
            train += words[i + 1 :]
            break
        name = option_name(word)
        if name is not None or word == "-h":
            now = own if name in names or name is None else train
        now.append(word)
    for word in train:
        if (name := option_name(word)) in OF_A_RUN:
            raise UserError(f"--{name} is set for each run by the comparison (see {PROG} --help): expected it not here")
    return own, train


def _sort(train: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that are settings, and words about how to run (``--track``), which every job is given as they are."""
    names = {f.name.replace("_", "-") for f in fields(RunOptions)}
    names |= {f"no-{name}" for name in names}
    settings: list[str] = []
    running: list[str] = []
    now = settings
    for word in train:
        if (name := option_name(word)) is not None:
            now = running if name in names else settings
        now.append(word)
    if running:
        parse_train(running)  # a mistake is found now, not by every job
    return settings, running


def _settings(request: Request, file: Mapping[str, Any], words: Sequence[str]) -> Any:
    whole = request.over(Request.read(file.get(COMPARE_TABLE, {})))
    if any(option_name(word) == "total-timesteps" for word in words):
        if request.trials is not None:
            raise UserError(f"trials={request.trials!r} and total_timesteps: expected one of them")
        whole = Request(**{**vars(whole), "trials": None})
    return build_settings(whole, file, lambda values: parse_train(words, values).config)
