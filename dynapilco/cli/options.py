"""Command-line options from dataclasses, with one-line errors.

`tyro` does the parsing and the help. Around it: a mistyped option is answered with the nearest ones, and what
tyro would print as a box is condensed to a sentence.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import partial
from typing import Annotated, Any, TypeVar, get_type_hints

import docstring_parser
import tyro

from dynapilco.core.errors import UserError

T = TypeVar("T")


def parse(options: type[T], words: Sequence[str], prog: str, description: str) -> T:
    """Parse words into an options dataclass.

    Raises
    ------
    UserError
        For an unknown option or a value of the wrong type.
    SystemExit
        With code 0 after ``--help`` was printed.
    """
    check_names(words, option_names(options), prog)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(options, args=list(words), prog=prog, description=description)
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(_one_sentence(said.getvalue(), prog)) from None


def _one_sentence(box: str, prog: str) -> str:
    """The words of tyro's error box: below its title, down to the first rule."""
    rows = [line.strip("│| ") for line in box.splitlines()]
    below_title = itertools.dropwhile(_is_rule, rows[1:])  # drawn in plain ASCII, the title has a rule too
    body = list(itertools.takewhile(lambda row: not _is_rule(row), below_title))
    message = " ".join(body).replace("Error parsing ", "").rstrip(".")
    message = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 is not an integer", message)
    message = re.sub(r"could not convert string to float: (.*)", r"\1 is not a number", message)
    return f"{message} (see {prog} --help)" if message else f"cannot read the options (see {prog} --help)"


def _is_rule(row: str) -> bool:
    return set(row) <= set("─╰╯-+")


def option_names(options: type, prefix: str = "") -> list[str]:
    """All options that a dataclass stands for: ``seed``, ``search.steps``, ``track``, ``no-track``, ..."""
    names: list[str] = []
    hints = get_type_hints(options)
    for f in fields(options):
        name = f.name.replace("_", "-")
        if is_dataclass(hints[f.name]) and isinstance(hints[f.name], type):
            names += option_names(hints[f.name], f"{prefix}{name}.")
        else:
            names += [prefix + name] + [f"{prefix}no-{name}"] * (hints[f.name] is bool)
    return names


def check_names(words: Iterable[str], valid: Sequence[str], prog: str) -> None:
    """Refuse an option that does not exist, naming the nearest ones.

    An option counts as near when it is spelt alike as a whole or in its last part: ``--steps`` for
    ``--search.steps``.
    """
    for word in words:
        name = option_name(word)
        if name is None or name in valid or name == "help":
            continue
        raise UserError(f"unknown option --{name}: {_hint(name, valid)}see {prog} --help")


def _hint(name: str, valid: Sequence[str]) -> str:
    group, dot, _ = name.rpartition(".")
    siblings = [v for v in valid if dot and v.startswith(f"{group}.")]
    if siblings and not difflib.get_close_matches(name, siblings, cutoff=0.7):
        return f"valid ones are {', '.join('--' + s for s in siblings)}; "
    last = {v.rpartition(".")[2]: v for v in valid}
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.7)
    near += [last[k] for k in difflib.get_close_matches(name.rpartition(".")[2], last, n=2, cutoff=0.8)]
    names = " or ".join(f"--{n}" for n in dict.fromkeys(near))
    return f"did you mean {names}? " if names else ""


def option_name(word: str) -> str | None:
    """``--env_id=x`` is the option ``env-id``; None for a value."""
    if not word.startswith("--") or not word[2:3].isalpha():
        return None
    return word[2:].split("=", 1)[0].replace("_", "-")


def peek(words: Sequence[str], name: str) -> str | None:
    """Value of one option, before everything is parsed; the last one given counts."""
    found = None
    for i, word in enumerate(words):
        if option_name(word) == name:
            _, equals, value = word.partition("=")
            found = value if equals else "".join(words[i + 1 : i + 2])
            if not found or (not equals and option_name(found) is not None):
                raise UserError(f"--{name}: expected a value")
    return found


def with_defaults(instance: Any, skip: Iterable[str] = (), note: str = "") -> type:
    """A dataclass for tyro: the fields of ``instance``, its values as defaults, a sentence of help for each.

    It checks nothing when it is built, so that all checking happens in one place, on the real dataclass.

    Parameters
    ----------
    instance : dataclass instance
    skip : iterable of str
        Fields to leave out.
    note : str
        Help of fields that have no sentence of their own.
    """
    cls = type(instance)
    helps, hints = field_helps(cls), get_type_hints(cls)
    specs = []
    for f in fields(cls):
        if f.name in skip or not f.init:
            continue
        value = getattr(instance, f.name)
        if is_dataclass(value) and not isinstance(value, type):
            sub = with_defaults(value)
            specs.append((f.name, sub, field(default_factory=sub)))
        elif isinstance(value, Mapping):  # given in a file; the command line has no form for it
            specs.append((f.name, tyro.conf.Suppress[hints[f.name]], field(default_factory=partial(dict, value))))
        else:
            text = helps.get(f.name) or note or summary_line(cls)
            specs.append((f.name, Annotated[hints[f.name], tyro.conf.arg(help=text)], field(default=value)))
    made = make_dataclass(cls.__name__, specs, frozen=True)
    made.__doc__ = summary_line(cls)
    return made


def field_helps(cls: type) -> dict[str, str]:
    """Sentences about fields: from the strings below them, or from the docstring's section of attributes.

    A field that a class inherits may be explained by the class that it comes from.
    """
    helps: dict[str, str] = {}
    for owner in cls.__mro__:
        if not is_dataclass(owner):
            continue
        for part in docstring_parser.parse_from_object(owner).params:
            text = " ".join((part.description or "").split())
            for name in part.arg_name.split(","):  # numpydoc allows several names in a line
                helps.setdefault(name.strip(), text)
    return helps


def summary_line(thing: Any) -> str:
    """First line of a docstring."""
    return ((thing.__doc__ or "").strip().splitlines() or [""])[0].strip()


def to_values(options: Any) -> Mapping[str, Any]:
    """Nested options as nested mappings, None left out."""
    pairs = ((f.name, getattr(options, f.name)) for f in fields(options))
    return {k: to_values(v) if is_dataclass(v) else v for k, v in pairs if v is not None}
