"""Networks out of plain operations: fused kernels lack derivatives of higher order, or have wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def plain_kernels(module: nn.Module) -> Iterator[None]:
    """Run ``module`` without kernels that stand in the way of forward-mode derivatives and their gradients.

    Fused attention and fused LSTMs have no forward-mode derivative. Layer and instance norms have one, but in torch
    2.13 the *gradient* of that derivative is wrong, without a warning (they are exact when written out).
    """
    recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        if recurrent:
            torch.backends.mkldnn.enabled = torch.backends.cudnn.enabled = False
        with sdpa_kernel(SDPBackend.MATH), _WrittenOut():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before[0])
        if recurrent:
            torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled = before[1:]


class _WrittenOut(TorchFunctionMode):
    """Replaces functions by ``WRITTEN_OUT``."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return WRITTEN_OUT.get(func, func)(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _affine(_normalised(input, range(-len(normalized_shape), 0), eps), weight, bias)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    wide = [None if t is None else t.reshape(-1, *[1] * (input.dim() - 2)) for t in (weight, bias)]
    return _affine(_normalised(input, range(2, input.dim()), eps), *wide)


def _glu(input: Tensor, dim: int = -1) -> Tensor:
    value, gate = input.chunk(2, dim)
    return value * torch.sigmoid(gate)


def _normalised(x: Tensor, dims: Sequence[int], eps: float) -> Tensor:
    centred = x - x.mean(tuple(dims), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(tuple(dims), keepdim=True) + eps)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


WRITTEN_OUT: dict[Any, Callable[..., Tensor]] = {
    functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    functional.instance_norm: _instance_norm,
    functional.glu: _glu,
}
