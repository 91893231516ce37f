"""A model fit beside its reference path: the same updates through plain torch, which end at the same loss."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from dynapilco.benchmark.problem import made_up, make_model
from dynapilco.benchmark.timing import wait_for
from dynapilco.core.seeding import torch_generator
from dynapilco.dynamics import DynamicsConfig

ROWS = 300
FITS: tuple[tuple[str, str, dict[str, Any], tuple[int, ...], bool], ...] = (
    ("ensemble, 10 of 2x64", "ensemble", {"members": 10}, (64, 64), True),
    ("random_features, 40 of 1x300", "random_features", {}, (300,), False),
)
"""Name, method, options, hidden widths, and whether there is a reference path: random_features has no kernel."""


@dataclass(frozen=True)
class FitTimes:
    """Seconds of a fit and of its reference path, with the training losses (nats a row) that they end at.

    The reference's are None for methods that run no kernel.
    """

    name: str
    seconds: float
    loss: float
    reference_seconds: float | None = None
    reference_loss: float | None = None


def time_fit(
    name: str,
    inference: str,
    kwargs: dict[str, Any],
    hidden: tuple[int, ...],
    has_reference: bool,
    device: torch.device,
) -> FitTimes:
    """Fit to 300 transitions from nothing: as users do, and where it matters with the compiled kernel switched off."""
    seconds, loss = _fit(inference, kwargs, hidden, device)
    if not has_reference:
        return FitTimes(name, seconds, loss)
    with engine("torch"):
        reference_seconds, reference_loss = _fit(inference, kwargs, hidden, device)
    return FitTimes(name, seconds, loss, reference_seconds, reference_loss)


def _fit(inference: str, kwargs: dict[str, Any], hidden: tuple[int, ...], device: torch.device) -> tuple[float, float]:
    data, generator = made_up(ROWS, device), torch_generator(0, "fit", device=device)
    model = make_model(inference, kwargs, DynamicsConfig(hidden=hidden), device)
    wait_for(device)
    clock = time.perf_counter()
    report = model.fit(data, generator)
    wait_for(device)
    return time.perf_counter() - clock, report.potential


@contextmanager
def engine(choice: str) -> Iterator[None]:
    """The environment's choice of kernels, for a while."""
    before = os.environ.get("DYNAPILCO_ENGINE")
    os.environ["DYNAPILCO_ENGINE"] = choice
    try:
        yield
    finally:
        if before is None:
            del os.environ["DYNAPILCO_ENGINE"]
        else:
            os.environ["DYNAPILCO_ENGINE"] = before
