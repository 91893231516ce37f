"""One set of sizes of the kernel: its C structures, its checks of the arguments and its workspaces."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.fused.reference import Masks, parameter_count

ACTIVATION_ORDER = ("identity", "tanh", "relu", "silu")  # Activation of kernel.cpp
_LARGEST_POOLED = 2**23  # floats of a workspace that is kept for the next call
_FLOATS = ctypes.c_void_p


class _Problem(ctypes.Structure):
    """``Problem`` of kernel.cpp."""

    _fields_ = [
        ("sets", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("layers", ctypes.c_int64),
        ("width", ctypes.c_void_p),
        ("activation", ctypes.c_int64),
        ("own_input", ctypes.c_int64),
        ("mask", ctypes.c_void_p),
        ("threads", ctypes.c_int64),
    ]


class _Call(ctypes.Structure):
    """``Call`` of kernel.cpp."""

    _fields_ = [
        ("flat", _FLOATS),
        ("x", _FLOATS),
        ("masks", ctypes.c_void_p),
        ("f", _FLOATS),
        ("saved", _FLOATS),
        ("scratch", _FLOATS),
        ("df", _FLOATS),
        ("dflat", _FLOATS),
        ("dx", _FLOATS),
    ]


def declare(library: Any) -> None:
    """Set the signatures of the library's functions; raises ``AttributeError`` where one is missing."""
    for name in ("sizes", "forward", "backward"):
        function = getattr(library, f"dense_{name}")
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None


def empty(*size: int) -> Tensor:
    """Return float32 on the CPU, whatever the defaults are."""
    return torch.empty(size, dtype=torch.float32, device="cpu")


def _int64s(numbers: Sequence[int]) -> Any:
    return (ctypes.c_int64 * max(1, len(numbers)))(*numbers)


class Workspace:
    """A block of floats that goes back to its pool when its last user lets go of it."""

    __slots__ = ("floats", "pool")

    def __init__(self, pool: list[Tensor], size: int) -> None:
        self.pool = pool
        try:
            self.floats = pool.pop()
        except IndexError:
            self.floats = empty(size)

    def __del__(self) -> None:
        if self.floats.numel() <= _LARGEST_POOLED:
            self.pool.append(self.floats)


class Plan:
    """A call of the kernel with all sizes fixed.

    Parameters
    ----------
    library : ctypes.CDLL
    sets, rows : int
        S and B, at least 1.
    widths : tuple of int
        Input, hidden and output widths.
    activation : str
    own : bool
        x is (S, B, in), not (B, in).
    kinds : tuple of int
        For every hidden layer 0: no mask, 1: a mask (B, width), 2: a mask (S, B, width).
    threads : int
        At most so many threads.
    """

    def __init__(
        self,
        library: Any,
        sets: int,
        rows: int,
        widths: tuple[int, ...],
        activation: str,
        own: bool,
        kinds: tuple[int, ...],
        threads: int,
    ) -> None:
        self._width, self._kinds = _int64s(widths), _int64s(kinds)
        self._problem = _Problem(
            sets, rows, len(widths) - 1, ctypes.addressof(self._width), ACTIVATION_ORDER.index(activation), own,
            ctypes.addressof(self._kinds), threads,
        )  # fmt: skip
        self._address = ctypes.addressof(self._problem)
        self._run_forward, self._run_backward = library.dense_forward, library.dense_backward
        sizes = _int64s([0] * 5)
        library.dense_sizes(self._address, sizes)
        self.saved_size, *self._scratch_sizes = sizes
        self._scratch_pools: list[list[Tensor]] = [[] for _ in self._scratch_sizes]
        self._saved_pool: list[Tensor] = []
        self.flat_shape = torch.Size((sets, parameter_count(widths)))
        self.x_shape = torch.Size((sets, rows, widths[0]))
        self.f_shape = torch.Size((sets, rows, widths[-1]))

    def workspace(self) -> Workspace:
        """Room for what the backward pass needs."""
        return Workspace(self._saved_pool, self.saved_size)

    def forward(self, flat: Tensor, x: Tensor, masks: Masks, f: Tensor, saved: Workspace | None) -> None:
        """Write the outputs into f (S, B, out); keep the activations where ``saved`` is given."""
        which = 1 if saved is None else 0
        scratch = Workspace(self._scratch_pools[which], self._scratch_sizes[which])
        pointers = (ctypes.c_void_p * max(1, len(masks)))(*[None if m is None else m.data_ptr() for m in masks])
        call = _Call(
            flat.data_ptr(), x.data_ptr(), ctypes.addressof(pointers), f.data_ptr(),
            None if saved is None else saved.floats.data_ptr(), scratch.floats.data_ptr(),
        )  # fmt: skip
        self._run_forward(self._address, ctypes.addressof(call))

    def backward(self, flat: Tensor, saved: Workspace, df: Tensor, dflat: Tensor | None, dx: Tensor | None) -> None:
        """Write the gradients into dflat (S, n) and dx (S, B, in), where they are given.

        Of a shared x the first (B, in) of dx becomes the sum over S.
        """
        which = 2 if dx is None else 3
        scratch = Workspace(self._scratch_pools[which], self._scratch_sizes[which])
        call = _Call(
            flat.data_ptr(), None, None, None, saved.floats.data_ptr(), scratch.floats.data_ptr(), df.data_ptr(),
            None if dflat is None else dflat.data_ptr(), None if dx is None else dx.data_ptr(),
        )  # fmt: skip
        self._run_backward(self._address, ctypes.addressof(call))


Shape = tuple[int, ...]


@lru_cache(maxsize=16)  # a plan keeps its workspaces
def find_plan(
    library: Any, flat: Shape, x: Shape, widths: Shape, activation: str, masks: tuple[Shape | None, ...], threads: int
) -> Plan | None:
    """Return the plan for tensors of these shapes; None without a library, or with nothing to compute.

    Raises
    ------
    UserError
        For shapes that do not fit together, or an unknown activation.
    """
    _check_shapes(flat, x, widths, activation, masks)
    sets, rows = flat[0], x[-2]
    if library is None or sets == 0 or rows == 0:
        return None
    kinds = tuple(0 if m is None else len(m) - 1 for m in masks)
    return Plan(library, sets, rows, widths, activation, len(x) == 3, kinds, threads)


def _check_shapes(flat: Shape, x: Shape, widths: Shape, activation: str, masks: tuple[Shape | None, ...]) -> None:
    if len(widths) < 2 or min(widths) < 1:
        raise UserError(f"widths={widths}: expected at least an input and an output width, all positive")
    if activation not in ACTIVATION_ORDER:
        raise UserError(f"activation={activation!r}: expected one of {', '.join(ACTIVATION_ORDER)}")
    n = parameter_count(widths)
    if len(flat) != 2 or flat[1] != n:
        raise UserError(f"flat has shape {tuple(flat)}: expected (S, {n}) for widths {widths}")
    sets = flat[0]
    if len(x) not in (2, 3) or x[-1] != widths[0] or (len(x) == 3 and x[0] != sets):
        raise UserError(f"x has shape {tuple(x)}: expected (B, {widths[0]}) or ({sets}, B, {widths[0]})")
    if len(masks) != len(widths) - 2:
        raise UserError(f"masks has {len(masks)} entries: expected {len(widths) - 2}, one for every hidden layer")
    for i, mask in enumerate(masks):
        row = (x[-2], widths[i + 1])
        if mask is not None and mask not in (row, (sets, *row)):
            raise UserError(f"masks[{i}] has shape {tuple(mask)}: expected {row} or {(sets, *row)}")


def check_tensor(tensor: Tensor, name: str) -> None:
    """Refuse anything but float32 on the CPU."""
    if tensor.dtype is not torch.float32 or not tensor.is_cpu:
        raise UserError(f"{name} is {tensor.dtype} on {tensor.device}: the kernel takes float32 on the CPU")


def check_mask(mask: Tensor | None, name: str) -> Tensor | None:
    """Return the mask as the kernel reads it; raises ``UserError`` for one that requires a gradient."""
    if mask is None:
        return None
    check_tensor(mask, name)
    if mask.requires_grad:
        raise UserError(f"{name} requires a gradient, which the kernel does not give: use the torch path")
    return mask.contiguous()
