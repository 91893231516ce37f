"""Compile, load and check the kernel of stacked multilayer perceptrons."""

from __future__ import annotations

import ctypes
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.build import BuildError, build, check_choice
from dynapilco.inference.fused.plan import ACTIVATION_ORDER, Plan, declare, empty
from dynapilco.inference.fused.reference import dense_reference, parameter_count

SOURCE = Path(__file__).with_name("kernel.cpp")
_CHECK_TOLERANCE = 1e-5  # relative to the largest number: some 30 times the rounding of these sums


def available() -> bool:
    """Whether the compiled kernel is there and passed its check; the first call compiles it."""
    return unavailable_reason() is None


def unavailable_reason() -> str | None:
    """Why the kernel cannot be used, or None when it can.

    Raises
    ------
    UserError
        For a value of the environment variable ``DYNAPILCO_ENGINE`` other than ``torch`` and ``auto``.
    """
    if check_choice() == "torch":
        return "the environment asks for the torch engine (DYNAPILCO_ENGINE=torch)"
    return _load()[1]


def find_library() -> Any:
    """The library, or None where torch must do: by choice, or with one warning because something failed."""
    if check_choice() == "torch":
        return None
    library, reason = _load()
    if library is None:
        _warn(reason)
    return library


@lru_cache(maxsize=1)
def _warn(reason: str) -> None:
    warnings.warn(f"dense networks run in plain torch, which is slower: {reason}", RuntimeWarning, stacklevel=4)


@lru_cache(maxsize=1)
def _load() -> tuple[Any, str | None]:
    """(library, None) or (None, reason)."""
    try:
        library = ctypes.CDLL(str(build(SOURCE, "dense")))
        declare(library)
        error = _self_check(library)
    except (BuildError, OSError, AttributeError) as problem:
        return None, str(problem)
    if not error < _CHECK_TOLERANCE:
        return None, f"the compiled kernel disagrees with torch by {error:.1e} (a compiler fault?)"
    return library, None


@torch.inference_mode(False)
@torch.enable_grad()
def _self_check(library: Any) -> float:
    """Return the largest relative difference to torch in float64, over all activations (NaN if any is)."""
    gaps = [_gap(library, activation, own) for activation in ACTIVATION_ORDER for own in (False, True)]
    return float(torch.stack(gaps).amax())


def _gap(library: Any, activation: str, own: bool) -> Tensor:
    """The difference of the outputs and gradients of two small networks; own input goes with a mask."""
    generator = torch.Generator().manual_seed(0)
    sets, rows, widths = 2, 83, (3, 21, 9, 2)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")

    flat = 0.5 * normal(sets, parameter_count(widths))
    x = normal(sets, rows, widths[0]) if own else normal(rows, widths[0])
    masks = (normal(rows, widths[1]), normal(sets, rows, widths[2])) if own else (None, None)
    df, f = normal(sets, rows, widths[-1]), empty(sets, rows, widths[-1])
    dflat, dx = torch.empty_like(flat), empty(sets, rows, widths[0])
    plan = Plan(library, sets, rows, widths, activation, own, (1, 2) if own else (0, 0), 1)
    saved = plan.workspace()
    plan.forward(flat, x, masks, f, saved)
    plan.backward(flat, saved, df, dflat, dx)
    leaves = [v.double().requires_grad_() for v in (flat, x)]
    wide = [None if m is None else m.double() for m in masks]
    expected = dense_reference(leaves[0], leaves[1], widths, activation, wide)
    grads = torch.autograd.grad((expected * df).sum(), leaves)
    pairs = ((f, expected.detach()), (dflat, grads[0]), (dx if own else dx[0], grads[1]))
    return torch.stack([(a - b).abs().max() / b.abs().max() for a, b in pairs]).amax()
