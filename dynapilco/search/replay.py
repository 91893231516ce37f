"""A function of tensors that is recorded once and called again with other numbers in the same places.

On a GPU the recording is a CUDA graph: a rollout of 60 steps with its gradient is thousands of small kernels, which one
call starts. A recording reads and writes fixed storage; what changes between calls (random numbers, weights newly
drawn, schedules) is copied there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3
"""Calls before a recording, as libraries allocate workspaces at their first."""

Function = Callable[[], Any]
Recorder = Callable[[Function], tuple[Callable[[], None], Any]]
"""Records a function; returns what repeats it, and its outputs, which a repetition overwrites."""


def cuda_graph(function: Function, device: torch.device | None = None) -> tuple[Callable[[], None], Any]:
    """Record on a CUDA device, by default the current one.

    A recording that fails leaves torch's allocator and random numbers as if it still went on; what waits for the
    device, which no recording may, is therefore refused in the last call before it.

    Raises
    ------
    RuntimeError
        For a function that cannot be recorded.
    """
    with torch.cuda.device(device):
        before, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(before)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS - 1):
                function()
            with _no_waiting():
                function()
        before.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(before), torch.cuda.graph(graph, stream=stream):  # the latter stays on if it fails
            outputs = function()
    return graph.replay, outputs


@contextmanager
def _no_waiting() -> Iterator[None]:
    """What waits for the device raises ``RuntimeError``."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def call_again(function: Function) -> tuple[Callable[[], None], Any]:
    """No graph: every repetition calls the function. For devices without graphs, and for tests."""
    outputs = function()
    return lambda: fill(outputs, function()), outputs


class Recording:
    """One recorded function.

    Parameters
    ----------
    function : callable
        ``function(inputs, numbers)`` -> outputs, of tensors (), (...) in ``inputs`` and ``numbers``; it may change the
        tensors ``state`` in place.
    inputs : Any
        Tensors in tuples, dictionaries and dataclasses.
    numbers : mapping of str to float
    state : sequence of Tensor
        What the function changes: put back after the recording.
    device : torch.device
    record : callable
        :func:`cuda_graph`, or :func:`call_again`.
    """

    def __init__(
        self,
        function: Callable[[Any, dict[str, Tensor]], Any],
        inputs: Any,
        numbers: Mapping[str, float],
        state: Sequence[Tensor],
        device: torch.device,
        record: Recorder = cuda_graph,
    ) -> None:
        self.inputs = duplicate(inputs)
        self.numbers = {name: torch.full((), value, device=device) for name, value in numbers.items()}
        before = [tensor.detach().clone() for tensor in state]
        try:
            self._replay, self.outputs = record(lambda: function(self.inputs, self.numbers))
        finally:
            with torch.no_grad():
                for tensor, value in zip(state, before, strict=True):
                    tensor.copy_(value)

    def fits(self, inputs: Any) -> bool:
        """Whether ``inputs`` are as those recorded, up to the numbers in their tensors."""
        return same_shape(self.inputs, inputs)

    def __call__(self, inputs: Any, numbers: Mapping[str, float]) -> Any:
        """The outputs for these inputs; the next call overwrites them."""
        with torch.no_grad():
            fill(self.inputs, inputs)
            for name, value in numbers.items():
                self.numbers[name].fill_(value)
        self._replay()
        return self.outputs


def duplicate(tree: Any) -> Any:
    """The same structure with storage of its own; what is no tensor, tuple, list, dictionary or dataclass is shared."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, (tuple, list)):
        return type(tree)(duplicate(part) for part in tree)
    if isinstance(tree, dict):
        return {name: duplicate(part) for name, part in tree.items()}
    if is_dataclass(tree) and not isinstance(tree, type):
        copy = object.__new__(type(tree))  # its fields alone: what it has computed from them would be stale
        for field in fields(tree):
            object.__setattr__(copy, field.name, duplicate(getattr(tree, field.name)))
        return copy
    return tree


def same_shape(one: Any, other: Any) -> bool:
    """Whether two trees differ in the numbers of their tensors at most."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same_shape, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_shape(one[name], other[name]) for name in one)
    if is_dataclass(one):
        return all(same_shape(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return one is other or (isinstance(one, (int, float, str, bool)) and one == other)


def fill(into: Any, source: Any) -> None:
    """Copy the numbers of all tensors of ``source`` into those of ``into``, of the same structure."""
    if isinstance(into, Tensor):
        into.copy_(source)
    elif isinstance(into, (tuple, list)):
        for a, b in zip(into, source, strict=True):
            fill(a, b)
    elif isinstance(into, dict):
        for name in into:
            fill(into[name], source[name])
    elif is_dataclass(into):
        for field in fields(into):
            fill(getattr(into, field.name), getattr(source, field.name))
