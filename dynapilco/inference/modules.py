"""What the layer demands of a user's module, and a deterministic copy of it to compute with."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dynapilco.core.errors import UserError
from dynapilco.inference.random import global_generator_from

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules whose kernels for evaluation mode have neither derivatives nor batching rules."""


def skeleton_of(module: nn.Module) -> nn.Module:
    """A copy of ``module`` that computes the same function every time: its dropout layers are switched off.

    Raises
    ------
    UserError
        For lazy parameters, for BatchNorm in training mode (a prediction would depend on the rest of its batch) and for
        modules without trainable parameters.
    """
    lazy = [n for n, p in module.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise UserError(f"module has uninitialised parameters {', '.join(lazy)}: run one batch through it first")
    norms = [name or type(m).__name__ for name, m in module.named_modules() if isinstance(m, _BatchNorm) and m.training]
    if norms:
        raise UserError(
            f"module has BatchNorm in training mode ({', '.join(norms)}): a prediction would depend on the rest of its "
            "batch, which no posterior over functions allows; use LayerNorm or GroupNorm, or freeze it with .eval()"
        )
    if not any(p.requires_grad for p in module.parameters()):
        raise UserError(f"module={type(module).__name__} has no trainable parameters: there is nothing to infer")
    bad = [name for name, p in module.named_parameters() if not torch.isfinite(p.detach()).all()]
    if bad:
        raise UserError(f"module has NaN or infinite weights in {', '.join(bad)}: expected finite ones to start from")
    twin = copy.deepcopy(module)
    for part in twin.modules():
        if isinstance(part, DROPOUTS):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention | nn.RNNBase):
            part.dropout = 0.0
        if isinstance(part, ATTENTION):
            part.training = True  # without dropout the same function, but not by the fused kernels of evaluation mode
    return twin


def split_names(module: nn.Module, exclude: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the Bayesian and of the excluded trainable parameters (tied ones under their first name).

    ``exclude`` holds names or patterns (``"norm.*"``); one that matches nothing raises ``UserError``.
    """
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    for pattern in exclude:
        if not fnmatch.filter(names, pattern):
            raise UserError(f"exclude={pattern!r} matches no trainable parameter: there are {', '.join(names)}")
    left_out = {name for pattern in exclude for name in fnmatch.filter(names, pattern)}
    if len(left_out) == len(names):
        raise UserError(f"exclude={list(exclude)!r} leaves no Bayesian parameter out of {', '.join(names)}")
    return [n for n in names if n not in left_out], [n for n in names if n in left_out]


def reinitialised(module: nn.Module, size: int, generator: torch.Generator) -> list[dict[str, Tensor]]:
    """``size`` fresh initialisations of ``module`` by its layers' own ``reset_parameters``.

    Parameters that no layer resets (bare ``nn.Parameter`` attributes) keep the value that they have in ``module``.
    """
    results = []
    with global_generator_from(generator):
        for _ in range(size):
            twin = copy.deepcopy(module)
            for part in twin.modules():
                reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
                if callable(reset):
                    reset()
            results.append({name: p.detach().clone() for name, p in twin.named_parameters()})
    return results
