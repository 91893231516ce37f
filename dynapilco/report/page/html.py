"""HTML elements from Python values: every text is escaped unless it is an element itself."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VOID = {"meta", "link", "input", "img", "source", "br"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Any  # str, Html, numbers, None, or an iterable of them


def tag(name: str, /, *children: Child, **attributes: Any) -> Html:
    """An element.

    Children that are no ``Html`` are escaped, None is left out, iterables are flattened. Attributes lose a trailing
    underscore and write ``-`` for the others; True stands without a value, None and False are left out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{html.escape(str(value), quote=True)}"')
    start = f"<{' '.join(words)}>"
    return Html(start if name in VOID else f"{start}{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Children one after the other, escaped."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, str) or not isinstance(children, Iterable):
        return Html(html.escape(str(children), quote=True))
    return Html("".join(join(child) for child in children))


def table(head: Sequence[Child], rows: Iterable[Sequence[Child]], caption: str) -> Html:
    """A table that scrolls sideways where it is too wide; its first column holds the rows' headings.

    Without ``head`` it is one of facts, a name and a value to a row.
    """

    def line(cells: Sequence[Child]) -> Html:
        return tag("tr", tag("th", cells[0], scope="row"), [tag("td", cell) for cell in cells[1:]])

    body = tag(
        "table",
        tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])) if head else None,
        tag("tbody", [line(cells) for cells in rows]),
        class_=None if head else "facts",
        aria_label=caption,
    )
    scrolling = tag("div", body, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return join([tag("p", caption, class_="caption"), scrolling])  # outside: a wide table does not cut it


def details(title: str, *children: Child, open_: bool = False) -> Html:
    """Something to unfold."""
    return tag("details", tag("summary", title), *children, open=open_)


def data(identifier: str, value: Any) -> Html:
    """Values for the page's script. They stand in an element that is never run, and no text in them can end it."""
    text = json.dumps(finite(value), allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return tag("script", Html(text), type="application/json", id=identifier)


def finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
