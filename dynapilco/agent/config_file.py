"""Between the configuration dataclass and a TOML file, with every type checked on the way in."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dynapilco.agent.config import AgentConfig
from dynapilco.core.errors import UserError, unknown_name
from dynapilco.imagination.config import ALGORITHMS
from dynapilco.inference import METHODS
from dynapilco.policies import POLICIES

EXPECTED = {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "a table"}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    UserError
        When it is missing, or broken: the message names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} is not valid TOML: {error}") from error


def as_of_old(values: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run, of which one that began before there were angles says nothing about them: it had none."""
    return {"angles": "off", **values}


def build_config(values: Mapping[str, Any]) -> AgentConfig:
    """Turn plain values into a resolved `AgentConfig`.

    Resolved means that names are canonical and that the options of the inference method and of the policy are
    all there, with their defaults filled in.

    Raises
    ------
    UserError
        For an unknown key, a wrong type or a value that a dataclass refuses.
    """
    config: AgentConfig = _build(AgentConfig, values, "")
    _check_controller_options(config)
    inference, policy = METHODS.canonical(config.inference), POLICIES.canonical(config.policy)
    return _build(
        AgentConfig,
        {
            **vars(config),
            "inference": inference,
            "inference_kwargs": resolve_options(METHODS[inference], inference, config.inference_kwargs),
            "policy": policy,
            "policy_kwargs": resolve_options(POLICIES[policy].Options, policy, config.policy_kwargs),
        },
        "",
    )


def _check_controller_options(config: AgentConfig) -> None:
    if not config.controller_kwargs:
        return
    if config.controller not in ALGORITHMS:
        raise UserError(
            f"controller_kwargs={config.controller_kwargs!r}: expected none for controller={config.controller!r}; they "
            f"belong to {', '.join(ALGORITHMS)}"
        )
    from dynapilco.imagination.learner import check_options  # imports stable-baselines3

    check_options(config.controller, config.controller_kwargs)


def resolve_options(cls: type, owner: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a method or policy by name, checked, with defaults filled in (None left out).

    Parameters
    ----------
    cls : type
        The dataclass of the options.
    owner : str
        Whose options they are, for messages.
    given : mapping
    """
    options = _build(cls, given, "", kind=f"{owner} option")
    return {name: value for name, value in asdict(options).items() if value is not None}


def config_values(config: AgentConfig) -> dict[str, Any]:
    """The configuration as plain values that TOML can hold: no None, lists for tuples."""
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _build(cls: type, values: Mapping[str, Any], where: str, kind: str = "setting") -> Any:
    hints = get_type_hints(cls)
    valid = [f.name for f in fields(cls) if f.init]
    for key in values:
        if key in valid:
            continue
        if not valid:
            raise UserError(f"unknown {kind} {key!r}: there are none")
        raise unknown_name(kind, f"{where}{key}", [where + name for name in valid])
    return cls(**{key: _convert(value, hints[key], where + key) for key, value in values.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, args, where)
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        return _build(hint, _expect(value, dict, where), f"{where}.")
    if origin is tuple:
        return _convert_tuple(value, args, where)
    if origin is Literal:
        if value not in args:
            raise unknown_name(where, value, map(str, args))
        return value
    kind = origin or hint
    return _expect(value, kind, where) if isinstance(kind, type) and kind in EXPECTED else value


def _convert_union(value: Any, args: tuple[Any, ...], where: str) -> Any:
    if value is None and types.NoneType in args:
        return None
    some = [arg for arg in args if arg is not types.NoneType]
    for arg in some[:-1]:
        try:
            return _convert(value, arg, where)
        except UserError:
            continue
    return _convert(value, some[-1], where)


def _convert_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    each = args[:1] * len(value) if isinstance(value, list | tuple) and args[1:] == (...,) else args
    if not isinstance(value, list | tuple) or len(value) != len(each):
        item = EXPECTED.get(args[0], "a value").split()[-1] + "s"
        raise UserError(f"{where}={value!r}: expected a list of {item}")
    return tuple(_convert(v, arg, f"{where}[{i}]") for i, (v, arg) in enumerate(zip(value, each, strict=True)))


def _expect(value: Any, kind: type, where: str) -> Any:
    """Give back ``value`` if it is of that kind; an integer is a number too, but a truth value is neither."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where}={value!r}: expected {EXPECTED[kind]}")
    return value
