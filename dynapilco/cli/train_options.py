"""The options of ``dynapilco train``: a configuration, and how to run it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from dynapilco.agent.config import AgentConfig
from dynapilco.agent.config_file import as_of_old, build_config, config_values, read_toml
from dynapilco.cli.options import field_helps, option_name, parse, peek, to_values, with_defaults
from dynapilco.cli.tracking_options import METAVARS as TRACKING_METAVARS
from dynapilco.cli.tracking_options import TrackingOptions
from dynapilco.core.errors import UserError
from dynapilco.inference import METHODS
from dynapilco.policies import POLICIES
from dynapilco.tracking.run_dir import CONFIG_FILE

PROG = "dynapilco train"
FREE = ("env_kwargs", "controller_kwargs")
"""Options whose names only an environment or an algorithm knows."""
DESCRIPTION = """Learn to control an environment in a few trials.

Every setting has a default; --config reads others from a file; an option overrides both.

notes:
  The options --inference-kwargs.NAME and --policy-kwargs.NAME belong to the chosen method and
  policy: "dynapilco train --inference mc_dropout --help" shows those of mc_dropout.
  Options of the environment are given as --env-kwargs.NAME VALUE, those of an algorithm of
  stable-baselines3 (--controller sac, ...) as --controller-kwargs.NAME VALUE.

examples:
  dynapilco train --config experiments/quickstart.toml
  dynapilco train --env-id dynapilco/PendulumSwingUp-v0 --seed 1 --total-timesteps 400
  dynapilco train --inference mc_dropout --policy rbf --policy-kwargs.units 50
  dynapilco train --inference-kwargs.members 5 --dynamics.hidden 64 64 --search.steps 300
  dynapilco train --env-id CartPole-v1 --controller cem --planning.population 300 --total-timesteps 1500
  dynapilco train --env-id Pendulum-v1 --controller sac --total-timesteps 2000
  dynapilco train --env-kwargs.friction 0.05 --out results/low-friction
  dynapilco train --track --wandb-project swingup --wandb-tags baseline small --tensorboard
  dynapilco train --resume runs/NAME"""
FREE_ON_RESUME = ("total_timesteps", "on_env_error", "on_disagreement")
COMPARE_TABLE = "compare"
"""What ``dynapilco compare`` reads in a file, beside the settings of its runs."""


@dataclass(frozen=True)
class RunOptions(TrackingOptions):
    """How to run, beside the configuration."""

    config: Path | None = None
    """TOML file with the settings below as keys; options on the command line override it."""
    out: Path | None = None
    """Folder for the results, new or empty; by default runs/ENV__METHOD__sSEED__TIME."""
    resume: Path | None = None
    """Run directory to go on with, from its last finished trial, under its own configuration."""
    threads: int = 1
    """Threads of torch; for products as small as these one is fastest."""
    video: bool = True
    """Record the last trial as a video."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threads < 1:
            raise UserError(f"threads={self.threads!r}: expected at least 1")


METAVARS = {"config": "FILE.toml", "out": "DIR", "resume": "RUN_DIR", **TRACKING_METAVARS}


@dataclass(frozen=True)
class Plan:
    """What was asked for: a checked, resolved configuration, how to run it, and remarks to pass on."""

    config: AgentConfig
    run: RunOptions
    remarks: tuple[str, ...] = ()


def parse_train(words: Sequence[str], given: Mapping[str, Any] | None = None) -> Plan:
    """Read the command line of ``train``.

    Parameters
    ----------
    words : sequence of str
        Without ``dynapilco train``.
    given : mapping, optional
        Settings that stand for those of a file.

    Raises
    ------
    UserError
        For anything that cannot be meant; the message is one sentence.
    """
    words, env_kwargs = _take_free(words, "env-kwargs.")
    words, controller_kwargs = _take_free(words, "controller-kwargs.")
    saved = _saved_values(peek(words, "resume"))
    values = saved if given is None else given
    if (file := peek(words, "config")) is not None:
        values = {name: value for name, value in read_toml(Path(file)).items() if name != COMPARE_TABLE}
    base, remarks = _base_config(words, values)
    parsed = to_values(parse(_options_type(base), words, PROG, DESCRIPTION))
    run = RunOptions(**{f.name: parsed[f.name] for f in fields(RunOptions) if f.name in parsed})
    chosen = {name: value for name, value in parsed.items() if not hasattr(run, name)}
    free = {"env_kwargs": {**base.env_kwargs, **env_kwargs}}
    free["controller_kwargs"] = {**base.controller_kwargs, **controller_kwargs}
    config = build_config({**chosen, **free})
    if run.resume is not None:
        _check_same(config, build_config(saved), run)
    return Plan(config, run, tuple(remarks))


def _saved_values(run_dir: str | None) -> Mapping[str, Any]:
    if run_dir is None:
        return {}
    path = Path(run_dir) / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"resume={run_dir!r} holds no {CONFIG_FILE}: expected the folder of an earlier run")
    return as_of_old(read_toml(path))


def _base_config(words: Sequence[str], values: Mapping[str, Any]) -> tuple[AgentConfig, list[str]]:
    """The defaults of all options; a name that is overridden takes the options of the old one with it."""
    config = build_config(values)
    merged, remarks = config_values(config), []
    kinds = (
        ("inference", METHODS.canonical), ("policy", POLICIES.canonical), ("env_id", str), ("controller", str),
    )  # fmt: skip
    for name, canonical in kinds:
        word = peek(words, name.replace("_", "-"))
        owned = "env_kwargs" if name == "env_id" else f"{name}_kwargs"
        if word is None or canonical(word) == merged[name]:
            continue
        if values.get(owned):
            remarks.append(f"{owned} of the file belong to {merged[name]!r} and are left out for {word!r}")
        merged |= {name: canonical(word), owned: {}}
    return build_config(merged), remarks


def _options_type(base: AgentConfig) -> type:
    """One flat dataclass for tyro: settings with the values of ``base`` as defaults, then the run options."""
    options = {
        "inference_kwargs": with_defaults(METHODS[base.inference](**base.inference_kwargs)),
        "policy_kwargs": with_defaults(POLICIES[base.policy].Options(**base.policy_kwargs)),
    }
    settings = with_defaults(base, skip=[*FREE, *options])
    hints = get_type_hints(settings, include_extras=True)
    specs: list[Any] = [(f.name, hints[f.name], f) for f in fields(settings) if not isinstance(hints[f.name], type)]
    specs += _run_specs()
    specs += [(name, made, field(default_factory=made)) for name, made in options.items()]
    specs += [(f.name, hints[f.name], f) for f in fields(settings) if isinstance(hints[f.name], type)]
    return make_dataclass("Train", specs, frozen=True)


def _run_specs() -> list[Any]:
    helps, hints = field_helps(RunOptions), get_type_hints(RunOptions)
    tracking = {f.name for f in fields(TrackingOptions)}  # a base class comes first; in the help it comes last
    return [
        (
            f.name,
            Annotated[hints[f.name], tyro.conf.arg(help=helps[f.name], metavar=METAVARS.get(f.name))],
            field(default=f.default),
        )
        for f in sorted(fields(RunOptions), key=lambda f: f.name in tracking)
    ]


def _take_free(words: Sequence[str], prefix: str) -> tuple[list[str], dict[str, Any]]:
    """Take ``--PREFIX.NAME VALUE ...`` out; only their owner knows their types, so as in TOML."""
    rest: list[str] = []
    taken: dict[str, list[str]] = {}
    current: list[str] | None = None
    for word in words:
        name = option_name(word)
        if name is not None:
            current = None
        if name is not None and name.startswith(prefix):
            current = taken.setdefault(name.removeprefix(prefix).replace("-", "_"), [])
            current += [word.partition("=")[2]] if "=" in word else []
        elif current is not None:
            current.append(word)
        else:
            rest.append(word)
    return rest, {name: _literals(f"--{prefix}{name.replace('_', '-')}", given) for name, given in taken.items()}


def _literals(option: str, given: list[str]) -> Any:
    if not given:
        raise UserError(f"{option}: expected a value")
    values = [_literal(word) for word in given]
    return values if len(values) > 1 else values[0]


def _literal(word: str) -> Any:
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except tomllib.TOMLDecodeError:
        return word


def _check_same(config: AgentConfig, saved: AgentConfig, run: RunOptions) -> None:
    """Refuse to resume under another configuration than the one that the run began with."""
    asked, had = _flat(config_values(config)), _flat(config_values(saved))
    for name in sorted(asked.keys() | had.keys()):
        if name not in FREE_ON_RESUME and asked.get(name) != had.get(name):
            raise UserError(
                f"{name}={asked.get(name)!r} contradicts the run in {str(run.resume)!r}, which has "
                f"{had.get(name)!r}: only --total-timesteps, --on-env-error, --on-disagreement, --video, --threads and "
                "the options about tracking may change on --resume"
            )
    if run.out is not None and run.resume is not None and run.out.resolve() != run.resume.resolve():
        raise UserError(f"out={str(run.out)!r} contradicts --resume: a resumed run goes on in {str(run.resume)!r}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found
