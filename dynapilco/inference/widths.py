"""How many target columns a network serves, read off its last layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynapilco.core.errors import UserError
from dynapilco.inference.draws import columns
from dynapilco.inference.likelihoods import Likelihood
from dynapilco.inference.target import BayesianModel


def guess_outputs(net: nn.Module, likelihood: Likelihood) -> int:
    """Target columns of ``net`` under ``likelihood``, from the width of its last layer.

    Raises
    ------
    UserError
        Where no layer tells, or where the width does not suit the likelihood.
    """
    last = _last_layer(net)
    if last is None:
        raise UserError(
            f"outputs: the layers of {type(net).__name__} do not tell how many target columns it has; give outputs=..."
        )
    return likelihood.target_columns(last[1])


def linear_width(net: nn.Module) -> int | None:
    """Output width of ``net`` where its last layer with a width is Linear; a convolution's depends on its input."""
    last = _last_layer(net)
    return last[1] if last is not None and isinstance(last[0], nn.Linear) else None


def _last_layer(net: nn.Module) -> tuple[nn.Module, int] | None:
    for module in reversed(list(net.modules())):
        width = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
        if isinstance(width, int):
            return module, width
    return None


def check_width(model: BayesianModel, state: dict[str, Tensor], x: Tensor) -> None:
    """Raise ``UserError`` unless the network takes rows like x (B, *in) and serves the model's target columns."""
    flat = model.full(state["params"][:1], state["points"][:1])
    try:
        with torch.no_grad():
            f = columns(model.network.shared(flat, x))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"x: the network takes no {x.dtype} rows of shape {tuple(x.shape[1:])} ({reason})") from error
    wanted = model.likelihood.network_outputs(model.outputs)
    if f.shape[-1] != wanted:
        raise UserError(
            f"outputs={model.outputs}: the network gives {f.shape[-1]} columns a row, "
            f"{type(model.likelihood).__name__} needs {wanted}; give outputs=..., the number of target columns"
        )
