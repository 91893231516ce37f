"""Convergence of Markov chains, judged on function values.

Weights of a network are not identified (permuting hidden units changes them and not the function), so R-hat of weights
means nothing; give these functions the chains' predictions on a probe set.

Shapes: C chains of T draws, then the quantities: ``values`` is (C, T, *Q), results are (*Q), float64. A quantity that
is the same number in every draw of every chain has no R-hat and no sample size: NaN. Source of all: Vehtari, Gelman,
Simpson, Carpenter and Buerkner (2021), "Rank-normalization, folding, and localization: an improved R-hat".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics.checks import require_floats

LEAST_DRAWS = 4


def _split(values: Tensor) -> Tensor:
    """Check (C, T, *Q) and cut each chain in two, leaving out the middle draw of an odd T: (2C, T//2, Q) float64."""
    require_floats(values=values)
    if values.ndim < 2 or values.shape[1] < LEAST_DRAWS:
        raise UserError(
            f"values has shape {tuple(values.shape)}: expected (chains, draws, *quantities) with at least "
            f"{LEAST_DRAWS} draws"
        )
    chains, draws = values.shape[:2]
    flat = values.detach().double().reshape(chains, draws, -1)
    half = draws // 2
    return torch.cat([flat[:, :half], flat[:, draws - half :]])


def _constant(split: Tensor) -> Tensor:
    return split.amax((0, 1)) == split.amin((0, 1))


def _blank_constants(result: Tensor, split: Tensor, like: Tensor) -> Tensor:
    return torch.where(_constant(split), torch.nan, result).reshape(like.shape[2:])


def _rhat(split: Tensor) -> Tensor:
    """Gelman-Rubin ratio of split chains: (Q,)."""
    draws = split.shape[1]
    within = split.var(1).mean(0)
    between = split.mean(1).var(0)
    return ((draws - 1) / draws + between / within).sqrt()


def _normal_scores(split: Tensor) -> Tensor:
    """Replace values by normal quantiles of their average ranks over all chains (Blom's formula)."""
    chains, draws, quantities = split.shape
    flat = split.reshape(chains * draws, quantities)
    ordered = flat.T.contiguous().sort(1).values
    queries = flat.T.contiguous()
    below = torch.searchsorted(ordered, queries)
    up_to = torch.searchsorted(ordered, queries, right=True)
    rank = (below + up_to + 1) / 2
    scores = torch.special.ndtri((rank.double() - 0.375) / (chains * draws + 0.25))
    return scores.T.reshape(split.shape)


def split_rhat(values: Tensor) -> Tensor:
    """Split R-hat without ranks (Gelman et al. 2013); infinite where stuck chains differ.

    Parameters
    ----------
    values : Tensor, shape (C, T, *Q)
        T of at least 4. One chain is enough, as it is split.

    Returns
    -------
    Tensor, shape (*Q)
    """
    split = _split(values)
    return _blank_constants(_rhat(split), split, values)


def rhat(values: Tensor) -> Tensor:
    """Rank-normalised R-hat: the larger of the split R-hat of normal scores and of folded normal scores.

    The ranks make it defined for heavy tails; folding about the median finds chains that differ in scale. Below 1.01
    is the authors' advice for use.

    Parameters
    ----------
    values : Tensor, shape (C, T, *Q)

    Returns
    -------
    Tensor, shape (*Q)
    """
    split = _split(values)
    folded = (split - _median(split)).abs()
    bulk, tail = _rhat(_normal_scores(split)), _rhat(_normal_scores(folded))
    # The folded values of a two-valued quantity can be constant, which says nothing about it.
    tail = torch.where(_constant(folded), bulk, tail)
    return _blank_constants(torch.maximum(bulk, tail), split, values)


def _median(split: Tensor) -> Tensor:
    """Median with the middle two averaged (torch.median takes the lower)."""
    ordered = split.flatten(0, 1).sort(0).values
    count = ordered.shape[0]
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _autocovariance(split: Tensor) -> Tensor:
    """Autocovariances (biased, divided by T) at all lags of each chain, by FFT: same shape as ``split``."""
    draws = split.shape[1]
    centred = split - split.mean(1, keepdim=True)
    length = 1 << (2 * draws - 1).bit_length()
    spectrum = torch.fft.rfft(centred, n=length, dim=1).abs().square()
    return torch.fft.irfft(spectrum, n=length, dim=1)[:, :draws] / draws


def _autocorrelation(split: Tensor) -> Tensor:
    """Combined autocorrelation of the chains: (T, Q)."""
    draws = split.shape[1]
    covariance = _autocovariance(split).mean(0)
    within = covariance[0] * draws / (draws - 1)
    total = covariance[0] + split.mean(1).var(0)
    rho = 1 - (within - covariance) / total
    rho[0] = 1
    return rho


def _ess(split: Tensor) -> Tensor:
    """Effective sample size of split chains by Geyer's initial monotone sequence: (Q,)."""
    rho = _autocorrelation(split)
    # The last lags average too few products to be of use; an even number of the others is left.
    lags = max(rho.shape[0] - 4 + rho.shape[0] % 2, 2)
    pairs = rho[0:lags:2] + rho[1:lags:2]
    kept = (pairs > 0).cumprod(0).bool()
    monotone = pairs.cummin(0).values
    # The even lag after the last kept pair halves the variance for antithetic chains (Stan's version of the estimate).
    after = kept.sum(0) * 2
    extra = torch.cat([rho, torch.zeros_like(rho[:1])]).gather(0, after[None])[0]
    tau = 2 * (monotone * kept).sum(0) - 1 + extra.clamp(min=0)
    total = split.shape[0] * split.shape[1]
    # An estimate above total * log10(total) is noise: antithetic chains may exceed the total, but not without limit.
    return total / tau.clamp(min=1 / math.log10(total))


def ess_bulk(values: Tensor) -> Tensor:
    """Effective sample size of the normal scores: how well the bulk (mean, median) is known.

    Parameters
    ----------
    values : Tensor, shape (C, T, *Q)

    Returns
    -------
    Tensor, shape (*Q)
        Advice for use: at least 100 a chain.
    """
    split = _split(values)
    return _blank_constants(_ess(_normal_scores(split)), split, values)


def ess_tail(values: Tensor) -> Tensor:
    """The smaller effective sample size of the indicators of the 5 % and of the 95 % quantile.

    Parameters
    ----------
    values : Tensor, shape (C, T, *Q)

    Returns
    -------
    Tensor, shape (*Q)
    """
    split = _split(values)
    ordered = values.detach().double().reshape(values.shape[0] * values.shape[1], -1).sort(0).values
    sizes = []
    for level in (0.05, 0.95):
        place = level * (ordered.shape[0] - 1)
        low = math.floor(place)
        quantile = torch.lerp(ordered[low], ordered[min(low + 1, ordered.shape[0] - 1)], place - low)
        indicator = (split <= quantile).double()
        sizes.append(torch.where(_constant(indicator), torch.nan, _ess(indicator)))
    return _blank_constants(torch.fmin(*sizes), split, values)


def mcse_mean(values: Tensor) -> Tensor:
    """Monte Carlo standard error of the mean over all draws, in the units of ``values``: sd / sqrt(ESS of the mean).

    Parameters
    ----------
    values : Tensor, shape (C, T, *Q)

    Returns
    -------
    Tensor, shape (*Q)
    """
    split = _split(values)
    sd = values.detach().double().flatten(0, 1).std(0)
    size = _blank_constants(_ess(split), split, values)
    return sd / size.sqrt()
