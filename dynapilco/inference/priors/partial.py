"""The layout of some of a network's parameters."""

from __future__ import annotations

from dataclasses import dataclass

from dynapilco.inference.layout import ParameterLayout


@dataclass(frozen=True)
class PartialLayout(ParameterLayout):
    """Some parameters of a layout, in its order.

    Attributes
    ----------
    whole : ParameterLayout
        All parameters: tells which layer is the last one.
    """

    whole: ParameterLayout


def whole_of(layout: ParameterLayout) -> ParameterLayout:
    """The layout of all parameters that ``layout`` is a part of."""
    return layout.whole if isinstance(layout, PartialLayout) else layout
