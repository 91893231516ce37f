"""Clocks: functions in turn, so that a slow moment of the machine hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch


def interleaved(
    functions: Sequence[Callable[[], object]], repeats: int, device: torch.device, warm_up: int = 2
) -> list[list[float]]:
    """Milliseconds of ``repeats`` calls of each function, called in turn after ``warm_up`` rounds."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(warm_up + repeats):
        for function, kept in zip(functions, times, strict=True):
            wait_for(device)
            clock = time.perf_counter()
            function()
            wait_for(device)
            if turn >= warm_up:
                kept.append(1e3 * (time.perf_counter() - clock))
    return times


def wait_for(device: torch.device) -> None:
    """Until everything queued on ``device`` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
