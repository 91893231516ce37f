"""Between the configuration dataclass and a TOML file, with every type checked on the way in."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynapilco.agent.config import AgentConfig
from dynapilco.core.errors import UserError
from dynapilco.core.typed import build
from dynapilco.imagination.config import ALGORITHMS
from dynapilco.inference import METHODS
from dynapilco.policies import POLICIES


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
    config: AgentConfig = build(AgentConfig, values, "")
    _check_controller_options(config)
    inference, policy = METHODS.canonical(config.inference), POLICIES.canonical(config.policy)
    return build(
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
    options = build(cls, given, "", kind=f"{owner} option")
    return {name: value for name, value in asdict(options).items() if value is not None}


def config_values(config: AgentConfig) -> dict[str, Any]:
    """The configuration as plain values that TOML can hold: no None, lists for tuples."""
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
