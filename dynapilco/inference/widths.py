"""How many target columns a network serves, read off its last layer."""

from __future__ import annotations

from torch import nn

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods import Likelihood


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
