"""Draws: S fixed functions, one engine a file."""

from dynapilco.inference.draws.base import Draw, columns, spread
from dynapilco.inference.draws.dense import DenseDraw
from dynapilco.inference.draws.linearised import LinearisedDraw
from dynapilco.inference.draws.make import make_draw
from dynapilco.inference.draws.sum import SumDraw, add_draws
from dynapilco.inference.draws.trunk import TrunkDraw, trunk_draw
from dynapilco.inference.draws.wrapped import ModuleDraw, WrappedDraw

__all__ = [
    "DenseDraw",
    "Draw",
    "LinearisedDraw",
    "ModuleDraw",
    "SumDraw",
    "TrunkDraw",
    "WrappedDraw",
    "add_draws",
    "columns",
    "make_draw",
    "spread",
    "trunk_draw",
]
