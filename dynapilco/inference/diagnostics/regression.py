"""Scores of predictive distributions over real targets, from samples or from mixtures of Gaussians.

Shapes, here and in ``calibration.py``: B examples, ``out`` outputs, K predictive samples, S mixture members (draws of
the network). Log scores treat the outputs of an example jointly and are in nats per example; the CRPS, coverage and
PIT are marginal, one number per output. The CRPS, RMSE and sharpness are in the units of ``y``. All but the NLL take
``y`` of any shape. ``reduction="none"`` gives the value of every example, which is what a paired test needs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics.checks import (
    Reduction,
    reduce,
    require_floats,
    require_mixture,
    require_positive,
    require_reduction,
    require_samples,
    require_shape,
)

LOG_2PI = math.log(2 * math.pi)


def moment_match(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of equally weighted mixtures of Gaussians.

    The variance is that of the members' means (epistemic) plus the mean of their variances (aleatoric).

    Parameters
    ----------
    mean, std : Tensor, shape (S, ...)

    Returns
    -------
    mean, std : Tensor, shape (...)
    """
    require_floats(mean=mean, std=std)
    require_shape("std", std, mean.shape, "mean")
    require_positive("std", std)
    variance = mean.var(0, correction=0) + std.square().mean(0)
    return mean.mean(0), variance.sqrt()


def _one_gaussian(mean: Tensor, std: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Check one Gaussian for each y; where a leading member axis is given, match the moments of the mixture."""
    if isinstance(mean, Tensor) and isinstance(y, Tensor) and mean.ndim == y.ndim + 1:
        require_mixture(mean, std, y)
        return moment_match(mean, std)
    require_floats(mean=mean, std=std, y=y)
    require_shape("mean", mean, y.shape, "y")
    require_shape("std", std, mean.shape, "mean")
    require_positive("std", std)
    return mean, std


def _gaussian_log_prob(mean: Tensor, std: Tensor, y: Tensor) -> Tensor:
    return -0.5 * (((y - mean) / std).square() + LOG_2PI) - std.log()


def _require_two_axes(y: Tensor) -> None:
    if y.ndim != 2:
        raise UserError(f"y has shape {tuple(y.shape)}: expected (B, out)")


def nll_mixture(mean: Tensor, std: Tensor, y: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    r"""Negative log-likelihood of an equally weighted mixture of S Gaussians, in nats per example.

    :math:`-\log \frac1S \sum_s \prod_o N(y_o; \mu_{so}, \sigma_{so}^2)`: the mixture is over whole functions, so the
    outputs of an example are independent given the member, not marginally. Source: Lakshminarayanan et al. (2017).

    Parameters
    ----------
    mean, std : Tensor, shape (S, B, out)
    y : Tensor, shape (B, out)

    Returns
    -------
    Tensor
        Scalar, or (B,) with ``reduction="none"``.

    Raises
    ------
    UserError
        Entries that are not finite, ``std`` not positive, or shapes that do not agree.
    """
    require_reduction(reduction)
    require_mixture(mean, std, y)
    _require_two_axes(y)
    joint = _gaussian_log_prob(mean, std, y).sum(-1)
    return reduce(math.log(joint.shape[0]) - joint.logsumexp(0), reduction)


def nll_gaussian(mean: Tensor, std: Tensor, y: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Negative log-likelihood of one diagonal Gaussian for each example, in nats per example.

    Parameters
    ----------
    mean, std : Tensor, shape (B, out), or (S, B, out)
        With the member axis, the Gaussian that matches the first two moments of the mixture is scored.
    y : Tensor, shape (B, out)

    Returns
    -------
    Tensor
        Scalar, or (B,) with ``reduction="none"``.
    """
    require_reduction(reduction)
    mean, std = _one_gaussian(mean, std, y)
    _require_two_axes(y)
    return reduce(-_gaussian_log_prob(mean, std, y).sum(-1), reduction)


def rmse(mean: Tensor, y: Tensor) -> Tensor:
    """Root mean squared error of point predictions ``mean`` (*y.shape) over all examples and outputs; a scalar."""
    require_floats(mean=mean, y=y)
    require_shape("mean", mean, y.shape, "y")
    return (mean - y).square().mean().sqrt()


def sharpness(variance: Tensor) -> Tensor:
    """Root of the mean predictive variance, in the units of the targets; a scalar.

    Kuleshov et al. (2018) use the mean variance; the root is taken to have the units of the RMSE.
    A sharpness far above the RMSE is underconfidence, far below it overconfidence.

    Parameters
    ----------
    variance : Tensor, any shape
        Total predictive variances.
    """
    require_floats(variance=variance)
    if bool((variance < 0).any()):
        raise UserError(f"variance has {int((variance < 0).sum())} negative entries: expected variances")
    return variance.mean().sqrt()


def crps_samples(samples: Tensor, y: Tensor, *, fair: bool = True, reduction: Reduction = "mean") -> Tensor:
    r"""Continuous ranked probability score of predictive samples, in O(K log K).

    :math:`\frac1K \sum_i |x_i - y| - \frac{1}{2c} \sum_{i,j} |x_i - x_j|` with c = K(K - 1) for the fair estimator,
    which is unbiased for the CRPS of the distribution the samples come from (Ferro 2014; Zamo and Naveau 2018),
    and c = K^2 for the plain one, the CRPS of the empirical distribution of the K samples.

    Parameters
    ----------
    samples : Tensor, shape (K, B, out)
    y : Tensor, shape (B, out)
    fair : bool
        The fair estimator needs K >= 2.

    Returns
    -------
    Tensor
        Scalar, or (B, out) with ``reduction="none"``. A single fair estimate can be negative.

    Raises
    ------
    UserError
        Entries that are not finite (they are counted), too few samples, or shapes that do not agree.
    """
    require_reduction(reduction)
    require_samples(samples, y, least=2 if fair else 1)
    # sum_{i<j} |x_i - x_j| = sum_i (2i - K - 1) x_(i) for sorted x; a shift by y drops out and keeps digits.
    errors = (samples - y).sort(0).values
    count = errors.shape[0]
    ranks = torch.arange(1 - count, count, 2, dtype=errors.dtype, device=errors.device)
    pairs = torch.tensordot(ranks, errors, dims=1)
    return reduce(errors.abs().mean(0) - pairs / (count * (count - 1 if fair else count)), reduction)


def _mean_absolute(mean: Tensor, std: Tensor) -> Tensor:
    """E|X| of X ~ N(mean, std^2): A(mean, std^2) of Grimit et al. (2006)."""
    z = mean / std
    density = torch.exp(-0.5 * (z.square() + LOG_2PI))
    return 2 * std * density + mean * torch.erf(z / math.sqrt(2))


def crps_gaussian(mean: Tensor, std: Tensor, y: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    r"""Closed-form CRPS of a Gaussian: :math:`\sigma [z(2\Phi(z) - 1) + 2\phi(z) - \pi^{-1/2}]`, z = (y - mean)/std.

    Source: Gneiting et al. (2005).

    Parameters
    ----------
    mean, std : Tensor, shape (B, out), or (S, B, out)
        With the member axis, the Gaussian that matches the first two moments of the mixture is scored.
    y : Tensor, shape (B, out)

    Returns
    -------
    Tensor
        Scalar, or (B, out) with ``reduction="none"``.
    """
    require_reduction(reduction)
    mean, std = _one_gaussian(mean, std, y)
    return reduce(_mean_absolute(y - mean, std) - std / math.sqrt(math.pi), reduction)


def crps_gaussian_mixture(mean: Tensor, std: Tensor, y: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    r"""Closed-form CRPS of an equally weighted mixture of S Gaussians, in O(S^2) time and O(S) memory per target.

    :math:`\frac1S \sum_i A(y - \mu_i, \sigma_i^2)
    - \frac{1}{2S^2} \sum_{i,j} A(\mu_i - \mu_j, \sigma_i^2 + \sigma_j^2)` with A(m, v) = E|N(m, v)|.
    Source: Grimit et al. (2006).

    Parameters
    ----------
    mean, std : Tensor, shape (S, B, out)
    y : Tensor, shape (B, out)

    Returns
    -------
    Tensor
        Scalar, or (B, out) with ``reduction="none"``.
    """
    require_reduction(reduction)
    require_mixture(mean, std, y)
    count = mean.shape[0]
    spread = std.sum(0) / math.sqrt(math.pi)  # the pairs i = j, half of A(0, 2 std^2)
    for i in range(count - 1):
        pair_std = (std[i].square() + std[i + 1 :].square()).sqrt()
        spread = spread + _mean_absolute(mean[i] - mean[i + 1 :], pair_std).sum(0)
    return reduce(_mean_absolute(y - mean, std).mean(0) - spread / count**2, reduction)
