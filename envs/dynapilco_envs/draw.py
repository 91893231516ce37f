"""Pictures in numpy alone: anti-aliased shapes by their signed distance, and the parts of the scenes.

A shape is a function from pixel coordinates to the signed distance to its edge in pixels (negative inside).
The share of a pixel that it covers is about 1/2 minus that distance, which is all that smooth edges need.
Only the pixels in the shape's bounding box are computed.
"""

from collections.abc import Callable
from itertools import pairwise
from math import cos, hypot, pi, sin

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 480, 320  # pixels

# Colours (red, green, blue). Their brightness differs as well, so that a grey print can be read.
PAPER = (250, 249, 246)
LINE = (120, 126, 135)
FAINT = (222, 223, 222)
CART = (52, 66, 86)
WHEEL = (28, 34, 44)
LINKS = ((222, 148, 54), (92, 150, 190))
JOINT = (250, 249, 246)
GOAL = (24, 134, 84)
ARROW = (206, 24, 50)

POLE_RADIUS = 5.0  # pixels, half the width
ARROW_LENGTH = 90.0  # pixels, at the largest force
ARROW_ANGLE = 0.85 * pi  # rad, at the largest torque
TORQUE_RADIUS = 40.0  # pixels, of the arc of the torque's arrow

Point = tuple[float, float]
Colour = tuple[int, int, int]
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Canvas:
    """A picture with a camera: metres with y upwards to pixels with y downwards.

    Parameters
    ----------
    scale
        Pixels per metre.
    centre
        The point in metres at the middle of the picture.
    """

    def __init__(self, scale: float, centre: Point = (0.0, 0.0)) -> None:
        self.scale, self.centre = scale, centre
        self._pixels = np.full((HEIGHT, WIDTH, 3), PAPER, dtype=np.float32)

    def pixel(self, point: Point) -> Point:
        """Return the pixel (column, row) of a point in metres."""
        column = WIDTH / 2 + (point[0] - self.centre[0]) * self.scale
        return column, HEIGHT / 2 - (point[1] - self.centre[1]) * self.scale

    def capsule(self, start: Point, end: Point, radius: float, colour: Colour) -> None:
        """Paint a line with round ends, pixels."""
        self.polyline([start, end], radius, colour)

    def polyline(self, points: list[Point], radius: float, colour: Colour) -> None:
        """Paint a line through points with round ends and bends, pixels."""

        def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return np.minimum.reduce([_to_segment(x, y, a, b) for a, b in pairwise(points)]) - radius

        self._paint(distance, points, radius, colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Paint a disc, pixels."""
        self._paint(lambda x, y: np.hypot(x - centre[0], y - centre[1]) - radius, [centre], radius, colour)

    def ring(self, centre: Point, radius: float, half_width: float, colour: Colour) -> None:
        """Paint a ring of a mean radius, pixels."""

        def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return np.abs(np.hypot(x - centre[0], y - centre[1]) - radius) - half_width

        self._paint(distance, [centre], radius + half_width, colour)

    def box(self, centre: Point, half: Point, corner: float, colour: Colour) -> None:
        """Paint an upright rectangle with half sides `half` and round corners of radius `corner`, pixels."""

        def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            dx, dy = np.abs(x - centre[0]) - half[0] + corner, np.abs(y - centre[1]) - half[1] + corner
            outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
            return outside + np.minimum(np.maximum(dx, dy), 0) - corner

        self._paint(distance, [centre], max(half), colour)

    def triangle(self, tip: Point, direction: Point, length: float, colour: Colour) -> None:
        """Paint an arrow's head, as long as wide, from its tip and its direction (a unit vector)."""

        def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            along = (tip[0] - x) * direction[0] + (tip[1] - y) * direction[1]
            across = np.abs((tip[0] - x) * direction[1] - (tip[1] - y) * direction[0])
            return np.maximum((across - along / 2) * (2 / 5**0.5), along - length)

        self._paint(distance, [tip], 1.2 * length, colour)

    def image(self) -> npt.NDArray[np.uint8]:
        """Return the picture, shape (320, 480, 3)."""
        return (self._pixels + 0.5).astype(np.uint8)

    def _paint(self, distance: Distance, points: list[Point], margin: float, colour: Colour) -> None:
        """Blend a colour in where the shape covers the pixels around its points."""
        columns, rows = [p[0] for p in points], [p[1] for p in points]
        left, right = _bounds(min(columns) - margin, max(columns) + margin, WIDTH)
        top, bottom = _bounds(min(rows) - margin, max(rows) + margin, HEIGHT)
        if left >= right or top >= bottom:
            return
        x = np.arange(left, right, dtype=np.float32)[None, :] + 0.5
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
        cover = np.clip(0.5 - distance(x, y), 0, 1)[..., None].astype(np.float32)
        patch = self._pixels[top:bottom, left:right]
        patch += cover * (np.array(colour, dtype=np.float32) - patch)


def track(centre: float, half_width: float) -> Canvas:
    """Return a canvas with a track, a mark at each half metre; the camera follows a cart that leaves.

    Parameters
    ----------
    centre
        Position of the cart in m.
    half_width
        Half the width of the picture in m.
    """
    margin = 0.72 * half_width
    shift = centre - min(max(centre, -margin), margin)
    canvas = Canvas(WIDTH / 2 / half_width, (shift, 0.0))
    row = canvas.pixel((0.0, 0.0))[1] + 24
    first, last = int((shift - half_width) * 2) - 1, int((shift + half_width) * 2) + 1
    for mark in range(first, last + 1):
        column = canvas.pixel((mark / 2, 0.0))[0]
        canvas.capsule((column, row), (column, row + (9 if mark == 0 else 5)), 1.0, LINE)
    canvas.capsule((-5.0, row), (WIDTH + 5.0, row), 1.25, LINE)
    return canvas


def wall(half_height: float) -> Canvas:
    """Return a canvas with a stand for a pivot at the origin; half the height of the picture is in m."""
    canvas = Canvas(HEIGHT / 2 / half_height)
    pivot, floor = canvas.pixel((0.0, 0.0)), HEIGHT - 12.0
    canvas.capsule((-5.0, floor), (WIDTH + 5.0, floor), 1.25, LINE)
    for side in (-1, 1):
        canvas.capsule(pivot, (pivot[0] + 34 * side, floor), 3.0, FAINT)
    return canvas


def draw_goal(canvas: Canvas, goal: Point) -> None:
    """Mark the goal of the tip, in m, by a ring and its middle."""
    centre = canvas.pixel(goal)
    canvas.ring(centre, 12.0, 1.75, GOAL)
    canvas.disc(centre, 3.0, GOAL)


def draw_cart(canvas: Canvas, pivot: Point) -> None:
    """Draw a cart around the pivot, in m."""
    column, row = canvas.pixel(pivot)
    for side in (-16, 16):
        canvas.disc((column + side, row + 17), 6.5, WHEEL)
    canvas.box((column, row + 1), (31.0, 14.0), 5.0, CART)


def draw_links(canvas: Canvas, pivot: Point, links: list[tuple[float, float]]) -> None:
    """Draw links one after the other, each a length in m and an absolute angle in rad (0 hanging)."""
    joints, start = [canvas.pixel(pivot)], pivot
    for (length, angle), colour in zip(links, LINKS, strict=False):
        end = (start[0] + length * sin(angle), start[1] - length * cos(angle))
        canvas.capsule(canvas.pixel(start), canvas.pixel(end), POLE_RADIUS, colour)
        joints.append(canvas.pixel(end))
        start = end
    for joint in joints[:-1]:
        canvas.disc(joint, POLE_RADIUS + 1.5, WHEEL)
        canvas.disc(joint, 2.5, JOINT)
    canvas.disc(joints[-1], 2.5, WHEEL)


def draw_force(canvas: Canvas, pivot: Point, share: float) -> None:
    """Draw a force on the cart, a share in [-1, 1] of the largest, as an arrow from the cart's side."""
    if share == 0:
        return
    side = 1.0 if share > 0 else -1.0
    column, row = canvas.pixel(pivot)
    start = (column + 34 * side, row + 1)
    tip = (start[0] + ARROW_LENGTH * share, row + 1)
    head = min(18.0, abs(ARROW_LENGTH * share))
    canvas.capsule(start, (tip[0] - 0.8 * head * side, row + 1), min(3.5, head / 4), ARROW)
    canvas.triangle(tip, (side, 0.0), head, ARROW)


def draw_torque(canvas: Canvas, pivot: Point, share: float) -> None:
    """Draw a torque, a share in [-1, 1] of the largest, as an arc around the pivot (from its top)."""
    if share == 0:
        return
    column, row = canvas.pixel(pivot)
    side = 1.0 if share > 0 else -1.0
    extent = ARROW_ANGLE * share
    head = min(18.0, abs(TORQUE_RADIUS * extent))
    angles = pi / 2 + np.linspace(0.0, extent - 0.7 * side * head / TORQUE_RADIUS, 16)
    arc = [(column + TORQUE_RADIUS * cos(a), row - TORQUE_RADIUS * sin(a)) for a in angles.tolist()]
    canvas.polyline(arc, min(3.5, head / 4), ARROW)
    end = pi / 2 + extent
    # The head lies along the chord of its part of the arc, so that it does not point off the circle
    middle = end - side * head / TORQUE_RADIUS / 2
    tip = (column + TORQUE_RADIUS * cos(end), row - TORQUE_RADIUS * sin(end))
    canvas.triangle(tip, (-sin(middle) * side, -cos(middle) * side), head, ARROW)


def _to_segment(x: np.ndarray, y: np.ndarray, start: Point, end: Point) -> np.ndarray:
    """Distance of pixels to a line segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = hypot(dx, dy)
    if length == 0:
        return np.hypot(x - start[0], y - start[1])
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / length**2, 0, 1)
    return np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


def _bounds(low: float, high: float, size: int) -> tuple[int, int]:
    """Pixels from low to high and one more on either side, within the picture."""
    return max(0, int(low) - 1), min(size, int(high) + 2)
