"""Local reparameterisation and flipout in any module: calls of linear layers and convolutions are intercepted.

A weight that is shared by the positions of a row (a convolution's, or a linear layer's on sequences) has one value for
all of them; independent noise for each position, as local reparameterisation would have it, is another distribution. So
flipout serves there, which is exact: one pair of sign vectors for a row. Weights that no single layer call uses (see
``layer_uses``) are sampled plainly, one value for all rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dynapilco.inference.estimators.dense import random_signs
from dynapilco.inference.estimators.uses import LAYER_CALLS, ROWS, Use, arguments, layer_uses
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.posteriors.base import normal_noise

Named = dict[str, Tensor]


class _Layers(TorchFunctionMode):
    """Answers the calls of layers in ``uses`` with noise of each row's own; one member, one sample.

    ``noise`` holds, by the weight's name: ``normal`` (B, out) for local reparameterisation, or the signs ``into`` and
    ``out`` (B, ...) for flipout.
    """

    def __init__(self, uses: dict[str, Use], sampled: Named, mean: Named, std: Named, noise: dict[str, Named]) -> None:
        super().__init__()
        self.names = {id(sampled[name]): name for name in uses}
        self.uses, self.sampled, self.mean, self.std, self.noise = uses, sampled, mean, std, noise

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in LAYER_CALLS:
            return func(*args, **kwargs)
        x, weight, bias, again = arguments(args, kwargs)
        name = self.names.get(id(weight))
        if name is None:
            return func(*args, **kwargs)
        own = self.uses[name].bias
        centre = again(func, x, self.mean[name], bias if own is None else self.mean[own])
        if name in self.noise["normal"]:
            variance = None if own is None else self.std[own].square()
            spread = F.linear(x.square(), self.std[name].square(), variance)
            return centre + (spread + torch.finfo(x.dtype).tiny).sqrt() * self.noise["normal"][name]
        moved = None if own is None else self.sampled[own] - self.mean[own]
        change = again(func, x * self.noise["into"][name], self.sampled[name] - self.mean[name], moved)
        return centre + change * self.noise["out"][name]


def row_noise_outputs(
    network: StackedNetwork,
    theta: Tensor,
    mean: Tensor,
    std: Tensor,
    x: Tensor,
    generator: torch.Generator,
    *,
    local: bool,
) -> Tensor:
    """Outputs of S * K weight samples with noise of each row's own, (S * K, B, *out).

    Parameters
    ----------
    network : StackedNetwork
    theta : Tensor, shape (S, K, n_full)
        Sampled weights; mirrored ones in its later half.
    mean, std : Tensor, shape (S, n_full)
    x : Tensor, shape (S, B, *in)
    local : bool
        Local reparameterisation where it is exact; else flipout throughout.
    """
    members, samples = theta.shape[:2]
    uses = layer_uses(network, theta[0, 0], x[0])
    noise = _noise(uses, (members, samples, x.shape[1]), theta, generator, local=local)
    split = network.full.split

    def once(sampled: Named, mean: Named, std: Named, noise: dict[str, Named], x: Tensor) -> Tensor:
        with _Layers(uses, sampled, mean, std, noise):
            return network.call(sampled, x)

    def all_samples(sampled: Named, mean: Named, std: Named, noise: dict[str, Named], x: Tensor) -> Tensor:
        return torch.vmap(once, in_dims=(0, None, None, 0, None))(sampled, mean, std, noise, x)

    if network.engine != "loop":
        f = torch.vmap(all_samples)(split(theta), split(mean), split(std), noise, x)
        return f.flatten(0, 1)
    pairs = [(s, k) for s in range(members) for k in range(samples)]
    return torch.stack(
        [
            once(
                split(theta[s, k]), split(mean[s]), split(std[s]),
                {kind: {name: t[s, k] for name, t in named.items()} for kind, named in noise.items()}, x[s],
            )
            for s, k in pairs
        ]
    )  # fmt: skip


def _noise(
    uses: dict[str, Use], lead: tuple[int, int, int], like: Tensor, generator: torch.Generator, *, local: bool
) -> dict[str, Named]:
    """Noise (S, K, B, ...) of every weight in ``uses``, by kind."""
    noise: dict[str, Named] = {"normal": {}, "into": {}, "out": {}}
    for name, use in uses.items():
        if local and use.kind == ROWS:
            noise["normal"][name] = normal_noise((*lead, *use.out), like, generator, antithetic=True)
        else:
            noise["into"][name] = random_signs((*lead, *use.into), like, generator)
            noise["out"][name] = random_signs((*lead, *use.out), like, generator)
    return noise
