"""What decorators and factories say about a class or options that do not fit: shared by likelihoods and priors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.core.registry import Registry


def require_class(where: str, cls: object, base: type) -> None:
    """Check that ``cls`` is a frozen dataclass below ``base`` that defines what ``base`` leaves open.

    Parameters
    ----------
    where : str
        How messages begin: ``"register_prior('mine')"``.

    Raises
    ------
    UserError
        Naming what is missing, with the signature that is expected.
    """
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UserError(f"{where}: {cls!r} is not a subclass of {base.__name__}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        wanted = ", ".join(_written(base, name) for name in missing)
        raise UserError(f"{where}: {cls.__name__} does not define {wanted}")
    parameters = cls.__dict__.get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        raise UserError(f"{where}: put @dataclass(frozen=True) below the decorator of {cls.__name__}")
    _require_signatures(where, cls, base)


def _written(base: type, name: str) -> str:
    """``log_prob(params, layout)``."""
    return f"{name}({', '.join(_positional(getattr(base, name))[1:])})"


def _positional(function: Callable[..., Any]) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]


def _require_signatures(where: str, cls: type, base: type) -> None:
    for name, function in vars(base).items():
        own = getattr(cls, name)
        if name.startswith("_") or not inspect.isfunction(function) or own is function:
            continue
        if not callable(own):
            raise UserError(f"{where}: {cls.__name__}.{name} is no function, expected {_written(base, name)}")
        try:
            inspect.signature(own).bind(*_positional(function))
        except TypeError as error:
            own_signature = f"({', '.join(_positional(own)[1:])})"
            raise UserError(
                f"{where}: {cls.__name__}.{name} takes {own_signature}, expected {_written(base, name)}"
            ) from error


def needs_options(cls: type) -> bool:
    """Whether ``cls()`` lacks arguments, so that no example can be made at registration."""
    return bool(_required(cls))


def _required(cls: type) -> list[str]:
    if not is_dataclass(cls):
        return []
    return [f.name for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING]


class Probe:
    """Calls functions of an example object on tiny tensors, and explains what is wrong with the answer.

    Parameters
    ----------
    where : str
        How messages begin.
    example : object
    """

    def __init__(self, where: str, example: object) -> None:
        self.where = f"{where}: {type(example).__name__}"
        self.example = example

    def call(self, name: str, *arguments: Any) -> Any:
        """``example.name(*arguments)``; an exception is passed on as a ``UserError`` that names the function."""
        try:
            return getattr(self.example, name)(*arguments)
        except Exception as error:
            shapes = ", ".join(_described(a) for a in arguments)
            advice = "; what it uses has to be defined above the class" if isinstance(error, NameError) else ""
            raise UserError(
                f"{self.where}.{name}({shapes}) raised {type(error).__name__} on a tiny example: {error}{advice}"
            ) from error

    def tensor(self, name: str, *arguments: Any, shape: tuple[int | None, ...], meaning: str) -> Tensor:
        """The same, for an answer that has to be a tensor of ``shape`` (None: any length) without NaN."""
        value = self.call(name, *arguments)
        call = f"{name}({', '.join(_described(a) for a in arguments)})"
        wanted = f"expected a tensor of shape {_shape(shape)}, {meaning}"
        if not isinstance(value, Tensor):
            raise UserError(f"{self.where}.{call} returned {type(value).__name__}, {wanted}")
        fits = value.dim() == len(shape) and all(b in (None, a) for a, b in zip(value.shape, shape, strict=True))
        if not fits:
            raise UserError(f"{self.where}.{call} returned shape {_shape(tuple(value.shape))}, {wanted}")
        if not torch.isfinite(value).all():
            raise UserError(f"{self.where}.{call} returned NaN or infinite values, {wanted}")
        return value

    def fail(self, words: str) -> UserError:
        """An error to raise, about the example's class."""
        return UserError(f"{self.where}{words}")


def _described(value: Any) -> str:
    return _shape(tuple(value.shape)) if isinstance(value, Tensor) else str(value if isinstance(value, int) else "...")


def _shape(shape: tuple[int | None, ...]) -> str:
    inner = ", ".join("k" if n is None else str(n) for n in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def build(registry: Registry[type], spec: str, options: Mapping[str, Any]) -> Any:
    """The part of ``registry`` called ``spec``, made with ``options``.

    Raises
    ------
    UserError
        For an unknown name or option, listing the valid ones, and for a required option that is not given.
    """
    cls, kind = registry[spec], registry.kind
    valid = [f.name for f in fields(cls) if f.init]
    listed = f"valid options are {', '.join(valid)}" if valid else "it has none"
    for key in options:
        if key not in valid:
            raise UserError(f"{kind} {spec!r} has no option {key!r}: {listed}")
    absent = [name for name in _required(cls) if name not in options]
    if absent:
        raise UserError(f"{kind} {spec!r} needs the option {', '.join(absent)}: {listed}")
    return cls(**options)


def plain_spec(spec: Any) -> Any:
    """A part as written by the user, in a form that is hashable: (name, options) gets its options as pairs."""
    if isinstance(spec, tuple | list) and len(spec) == 2 and isinstance(spec[0], str):
        pairs = spec[1].items() if isinstance(spec[1], Mapping) else spec[1]
        return spec[0], tuple((str(key), value) for key, value in pairs)
    return spec


def split_spec(spec: Any) -> tuple[Any, dict[str, Any]]:
    """Name and options of a part as written by the user; of anything else, itself and no options."""
    spec = plain_spec(spec)
    return (spec[0], dict(spec[1])) if isinstance(spec, tuple) and len(spec) == 2 else (spec, {})


def refuse_options(kind: str, spec: object, options: Mapping[str, Any]) -> None:
    """Raise where options are given beside an object that has its own."""
    if options:
        raise UserError(
            f"{kind}: options {', '.join(options)} go with a name, not with an object ({type(spec).__name__})"
        )
