"""Local reparameterisation and flipout on a plain stack of dense layers, all members and samples in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.inference.posteriors.base import normal_noise
from dynapilco.inference.stack import ACTIVATIONS, DenseStack


def local_dense(mean: DenseStack, variance: DenseStack, x: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Pre-activations x M + sqrt(x^2 V) e, a layer after the other (Kingma, Salimans & Welling 2015, eq. 6).

    Parameters
    ----------
    mean, variance : DenseStack
        Of the weights and biases, S members.
    x : Tensor, shape (S, B, in)
    samples : int
        K.

    Returns
    -------
    Tensor, shape (S, K, B, out)
    """
    members, rows = x.shape[:2]
    act, tiny = ACTIVATIONS[mean.activation], torch.finfo(x.dtype).tiny
    last, h = len(mean.weights) - 1, x
    for layer, weight in enumerate(mean.weights):
        centre = torch.baddbmm(mean.biases[layer].unsqueeze(1), h, weight)
        spread = torch.baddbmm(variance.biases[layer].unsqueeze(1), h.square(), variance.weights[layer])
        shape = (members, samples, rows, weight.shape[-1])
        noise = normal_noise(shape, x, generator, antithetic=True)
        repeats = (members, -1, rows, weight.shape[-1])  # the first layer's moments are shared by the samples
        h = torch.addcmul(centre.view(repeats), (spread + tiny).sqrt().view(repeats), noise)
        h = (act(h) if layer < last else h).view(members, samples * rows, -1)
    return h.view(members, samples, rows, -1)


def flipout_dense(mean: DenseStack, change: DenseStack, x: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Pre-activations x W + b + ((x s) dW + db) r with a row's own random signs s, r (Wen et al. 2018, eq. 4).

    Parameters
    ----------
    mean : DenseStack
        S members.
    change : DenseStack
        The deviations of S * K weight samples from the mean.
    x : Tensor, shape (S, B, in)
    samples : int
        K.

    Returns
    -------
    Tensor, shape (S, K, B, out)
    """
    members, rows = x.shape[:2]
    act, last = ACTIVATIONS[mean.activation], len(mean.weights) - 1
    h = x.unsqueeze(1).expand(members, samples, *x.shape[1:])
    for layer, weight in enumerate(mean.weights):
        into, out = weight.shape[-2:]
        signs = random_signs((members, samples, rows, into + out), x, generator)
        flipped = (h * signs[..., :into]).view(members * samples, rows, into)
        moved = torch.baddbmm(change.biases[layer].unsqueeze(1), flipped, change.weights[layer])
        centre = torch.baddbmm(mean.biases[layer].unsqueeze(1), h.reshape(members, samples * rows, into), weight)
        h = torch.addcmul(
            centre.view(members, samples, rows, out), moved.view((*signs.shape[:-1], out)), signs[..., into:]
        )
        h = act(h) if layer < last else h
    return h


def random_signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Fair signs (S, K, ...) of the kind of ``like``; the later half of K repeats the first.

    Mirrored weight samples (``antithetic``) share their signs, or they would be no mirror images.
    """
    half = (shape[1] + 1) // 2
    drawn = torch.randint(0, 2, (shape[0], half, *shape[2:]), generator=generator, device=like.device, dtype=torch.int8)
    signs = drawn.to(like.dtype).mul_(2).sub_(1)
    return torch.cat([signs, signs[:, : shape[1] - half]], dim=1)
