"""Values and gradients of S stacked multilayer perceptrons by the compiled kernel.

    f = dense_apply(flat, x, widths, "tanh")            # differentiable once, for any loss
    f, saved = forward(flat, x, widths, "tanh")         # without autograd: loops of many gradients
    dflat = backward(saved, df)

The kernel takes float32 on the CPU and gives first derivatives; where ``supports`` says no, use the torch path
(``StackedNetwork.dense``). Where it cannot be compiled, these functions run in plain torch, with one warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from dynapilco.core.errors import UserError
from dynapilco.inference.fused.load import find_library
from dynapilco.inference.fused.plan import ACTIVATION_ORDER, Plan, Workspace, check_mask, check_tensor, empty, find_plan
from dynapilco.inference.fused.reference import Masks, dense_reference

_is_transformed = torch._C._functorch.is_functorch_wrapped_tensor  # pyright: ignore[reportAttributeAccessIssue]


def supports(*tensors: Tensor | None, activation: str = "tanh") -> bool:
    """Whether ``dense_apply`` can run on these: float32 on the CPU, no ``torch.func`` transform, no forward mode.

    True also where the kernel cannot be compiled: ``dense_apply`` then runs in torch.
    """
    return activation in ACTIVATION_ORDER and all(t is None or _plain(t) for t in tensors)


def _plain(t: Tensor) -> bool:
    if t.dtype is not torch.float32 or not t.is_cpu or t.layout is not torch.strided or _is_transformed(t):
        return False
    return forward_ad.unpack_dual(t).tangent is None


@dataclass(eq=False)
class Saved:
    """What ``backward`` needs of a forward pass, and the buffers that both write into.

    Attributes
    ----------
    flat : Tensor, shape (S, n)
        The parameters: they must not change before ``backward``.
    f : Tensor, shape (S, B, out)
        The outputs; overwritten when this object is handed to ``forward`` again.
    dflat : Tensor, shape (S, n)
        What ``backward`` returns; overwritten by the next one.
    """

    flat: Tensor
    f: Tensor
    dflat: Tensor
    plan: Plan | None
    work: Workspace | None


def forward(
    flat: Tensor,
    x: Tensor,
    widths: Sequence[int],
    activation: str,
    masks: Masks | None = None,
    *,
    saved: Saved | None = None,
) -> tuple[Tensor, Saved]:
    """Evaluate without autograd and keep what ``backward`` needs.

    Parameters
    ----------
    flat, x, widths, activation, masks
        As in ``dense_apply``; a graph behind them is ignored.
    saved : Saved, optional
        That of an earlier call: its buffers are written over where the sizes are the same. Nothing is allocated then.

    Returns
    -------
    f : Tensor, shape (S, B, out)
    saved : Saved

    Raises
    ------
    UserError
        For arguments that do not fit together, and anything but float32 on the CPU.
    """
    plan, masks = _plan(flat, x, tuple(widths), activation, masks)
    flat, x = flat.detach().contiguous(), x.detach().contiguous()
    if plan is None:
        return _torch_forward(flat, x, tuple(widths), activation, masks)
    if saved is None or saved.plan is not plan:
        saved = Saved(flat, empty(*plan.f_shape), empty(*plan.flat_shape), plan, plan.workspace())
    saved.flat = flat
    plan.forward(flat, x, masks, saved.f, saved.work)
    return saved.f, saved


def backward(saved: Saved, df: Tensor) -> Tensor:
    """The gradient of ``(f * df).sum()`` with respect to flat.

    Parameters
    ----------
    saved : Saved
        Of the forward pass.
    df : Tensor, shape (S, B, out)

    Returns
    -------
    Tensor, shape (S, n)
        ``saved.dflat``: a buffer that the next ``backward`` of this object overwrites.

    Raises
    ------
    UserError
        For a df of another shape or dtype.
    """
    if df.shape != saved.f.shape or df.dtype is not torch.float32 or not df.is_cpu:
        wanted = f"float32 {tuple(saved.f.shape)} on the CPU"
        raise UserError(f"df is {df.dtype} {tuple(df.shape)} on {df.device}: expected {wanted}")
    if saved.plan is None:
        return _torch_backward(saved, df)
    assert saved.work is not None
    saved.plan.backward(saved.flat, saved.work, df.detach().contiguous(), saved.dflat, None)
    return saved.dflat


def dense_apply(flat: Tensor, x: Tensor, widths: Sequence[int], activation: str, masks: Masks | None = None) -> Tensor:
    """Evaluate S multilayer perceptrons; differentiable once in flat and x.

    Parameters
    ----------
    flat : Tensor, shape (S, n)
        Every set as ``torch.nn.Linear`` orders it: weight (out, in), then bias, layer after layer. float32, CPU.
    x : Tensor, shape (B, in) or (S, B, in)
        One batch for all sets, or one for each.
    widths : sequence of int
        Input, hidden and output widths.
    activation : str
        ``"tanh"``, ``"relu"``, ``"silu"`` or ``"identity"``, after every layer but the last.
    masks : sequence of (Tensor or None), optional
        One per hidden layer, (B, width) or (S, B, width): multiplies its activations. No gradient flows to a mask.

    Returns
    -------
    Tensor, shape (S, B, out)

    Raises
    ------
    UserError
        For arguments that do not fit together, and anything but float32 on the CPU.
    RuntimeError
        When a gradient is taken with ``create_graph=True``: there are no second derivatives.
    """
    plan, masks = _plan(flat, x, tuple(widths), activation, masks)
    if plan is None:
        return dense_reference(flat, x, widths, activation, masks)
    if torch.is_grad_enabled() and (flat.requires_grad or x.requires_grad):
        return _Dense.apply(flat, x, plan, masks)  # type: ignore[return-value]
    f = empty(*plan.f_shape)
    plan.forward(flat.contiguous(), x.contiguous(), masks, f, None)
    return f


def _plan(
    flat: Tensor, x: Tensor, widths: tuple[int, ...], activation: str, masks: Masks | None
) -> tuple[Plan | None, Masks]:
    """The plan (None: torch must do it) and the masks as the kernel reads them."""
    check_tensor(flat, "flat")
    check_tensor(x, "x")
    if masks is None:
        ready, shapes = (None,) * (len(widths) - 2), (None,) * (len(widths) - 2)
    else:
        ready = tuple(check_mask(m, f"masks[{i}]") for i, m in enumerate(masks))
        shapes = tuple(None if m is None else m.shape for m in ready)
    plan = find_plan(find_library(), flat.shape, x.shape, widths, activation, shapes, torch.get_num_threads())
    return plan, ready


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, flat: Tensor, x: Tensor, plan: Plan, masks: Masks) -> Tensor:
        flat, f = flat.contiguous(), empty(*plan.f_shape)
        # A workspace of this call alone: many calls may be alive before their backward passes.
        ctx.plan, ctx.work, ctx.shared = plan, plan.workspace(), x.dim() == 2
        ctx.save_for_backward(flat)
        plan.forward(flat, x.contiguous(), masks, f, ctx.work)
        return f

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():  # once_differentiable is silent where the incoming gradient is constant
            raise RuntimeError("dense_apply has no second derivatives (create_graph=True): use the torch path")
        (flat,) = ctx.saved_tensors
        dflat = empty(*ctx.plan.flat_shape) if ctx.needs_input_grad[0] else None
        dx = empty(*ctx.plan.x_shape) if ctx.needs_input_grad[1] else None
        ctx.plan.backward(flat, ctx.work, grads[0].contiguous(), dflat, dx)
        if dx is not None and ctx.shared:
            dx = dx[0].clone()  # the sum over S; a view would keep the rest
        return dflat, dx, None, None


# ----------------------------------------------------------------------------------------------------------
# Without the kernel
# ----------------------------------------------------------------------------------------------------------


@torch.enable_grad()
def _torch_forward(
    flat: Tensor, x: Tensor, widths: tuple[int, ...], activation: str, masks: Masks
) -> tuple[Tensor, Saved]:
    """``forward`` in plain torch; the graph hangs on ``Saved.f``."""
    flat = flat.clone().requires_grad_()
    f = dense_reference(flat, x, widths, activation, masks)
    return f.detach(), Saved(flat, f, torch.empty_like(flat, requires_grad=False), None, None)


def _torch_backward(saved: Saved, df: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(saved.f, saved.flat, df.detach(), retain_graph=True)
    return saved.dflat.copy_(grad)
