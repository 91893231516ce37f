"""Colours, lines and markers, shared by the page and the figures for papers.

Neighbouring numbers differ in all three, so series are told apart in greyscale and by readers who see few colours. What
has a meaning of its own everywhere has a number of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

COLOURS = (  # on light and on dark paper
    ("#1f5a93", "#7db8f0"), ("#c2491d", "#f0875c"), ("#2a7f4f", "#6cc796"), ("#7a4fa3", "#c4a0ea"),
    ("#8a6d00", "#d9b93c"), ("#0f7f8c", "#5cc8d4"), ("#a8327d", "#ec8fc7"), ("#6b5b4d", "#c0ae9e"),
)  # fmt: skip
DASHES = ((), (7, 3), (2, 2.5), (9, 3, 2, 3), (4, 2), (12, 3))
MARKERS = ("circle", "square", "triangle", "diamond", "down", "cross", "plus")


@dataclass(frozen=True)
class Style:
    """How a series looks: colours on light and dark paper, dashes in points, and a marker."""

    light: str
    dark: str
    dash: tuple[float, ...]
    marker: str


def style(number: int) -> Style:
    """The look of a series' number."""
    if number in MEANINGS:
        return MEANINGS[number]
    light, dark = COLOURS[number % len(COLOURS)]
    return Style(light, dark, DASHES[number % len(DASHES)], MARKERS[number % len(MARKERS)])


REAL, PREDICTED, EXPLORED, FAILED, SUCCESS, NEUTRAL = range(1000, 1006)
MEANINGS = {
    REAL: Style("#1a1a1a", "#f0f0f0", (), "circle"),
    PREDICTED: Style("#1f5a93", "#7db8f0", (7, 3), "diamond"),
    EXPLORED: Style("#6e6e6e", "#a8a8a8", (), "square"),
    FAILED: Style("#c2491d", "#f0875c", (), "circle"),
    SUCCESS: Style("#b98900", "#ffd24a", (), "star"),
    NEUTRAL: Style("#6e6e6e", "#a8a8a8", (3, 3), "plus"),
}


def all_styles(count: int) -> dict[int, Style]:
    """The first ``count`` styles and those with a meaning, by number."""
    return {number: style(number) for number in range(count)} | MEANINGS
