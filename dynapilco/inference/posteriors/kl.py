"""The Kullback-Leibler divergence from a variational posterior to a prior, by the types of both.

    KL(q || p) = -H(q) - E_q[log p(theta)]

Closed forms are registered for pairs of types; every other pair is estimated by Monte Carlo, with the entropy in closed
form where the family knows it, which leaves only E_q[log p] to the samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.posteriors.base import Posterior, Variational
from dynapilco.inference.posteriors.full_rank import FullNormal
from dynapilco.inference.posteriors.low_rank import LowRankNormal
from dynapilco.inference.posteriors.normal import Normal
from dynapilco.inference.posteriors.student_t import StudentT
from dynapilco.inference.priors import Prior

KLFunction = Callable[[Posterior, Variational, Prior, ParameterLayout], Tensor]
F = TypeVar("F", bound=Callable[..., Tensor])

_FUNCTIONS: dict[tuple[type, type], KLFunction] = {}


class GaussianPrior(Prior):
    """Stands, in ``register_kl``, for every prior that says ``gaussian = True``."""


def register_kl(posterior: type, prior: type) -> Callable[[F], F]:
    """Decorate the closed form ``f(q, variational, prior, layout) -> (S,)`` of KL(posterior || prior).

    It also serves subclasses of both, unless there is a more specific one.

    Raises
    ------
    UserError
        Where ``posterior`` is no ``Posterior`` class or ``prior`` no ``Prior`` class.
    """
    for name, cls, base in (("posterior", posterior, Posterior), ("prior", prior, Prior)):
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise UserError(f"register_kl: {name}={cls!r}, expected a subclass of {base.__name__}")

    def add(function: F) -> F:
        _FUNCTIONS[posterior, prior] = function
        _find.cache_clear()
        return function

    return add


def closed_form(q: Posterior, prior: Prior) -> KLFunction | None:
    """The registered function for the types of ``q`` and ``prior``, or None."""
    return _find(type(q), type(prior), prior.gaussian)


@lru_cache(maxsize=256)
def _find(posterior: type, prior: type, gaussian: bool) -> KLFunction | None:
    """The pair with the least summed distance along both lines of descent; a tie goes to the nearer posterior."""
    priors = list(prior.__mro__)
    if gaussian and Prior in priors:
        priors.insert(priors.index(Prior), GaussianPrior)
    ranked = [
        (posterior.__mro__.index(a) + priors.index(b), posterior.__mro__.index(a), function)
        for (a, b), function in _FUNCTIONS.items()
        if a in posterior.__mro__ and b in priors
    ]
    return min(ranked, key=lambda entry: entry[:2])[2] if ranked else None


def kl_divergence(
    q: Posterior,
    variational: Variational,
    prior: Prior,
    layout: ParameterLayout,
    samples: int = 64,
    generator: torch.Generator | None = None,
    *,
    theta: Tensor | None = None,
) -> Tensor:
    """KL(q || prior) of each member, (S,), nats.

    Parameters
    ----------
    q : Posterior
    variational : mapping
        Its tensors.
    prior : Prior
    layout : ParameterLayout
        Of the n weights.
    samples : int
        K of the Monte Carlo estimate, where there is no closed form.
    generator : torch.Generator, optional
        Of the Monte Carlo estimate; without it, the same fixed draws are used at every call.
    theta : Tensor, optional
        Samples (S, K, n) of q that the estimate shall use.

    Raises
    ------
    UserError
        For fewer than one sample.
    """
    function = closed_form(q, prior)
    if function is not None:
        return function(q, variational, prior, layout)
    if theta is None:
        theta = _draw(q, variational, samples, generator)
    return monte_carlo_kl(q, variational, prior, layout, theta)


def monte_carlo_kl(
    q: Posterior, variational: Variational, prior: Prior, layout: ParameterLayout, theta: Tensor
) -> Tensor:
    """The estimate of KL(q || prior), (S,), from samples theta (S, K, n) of q: unbiased and differentiable."""
    members, count, n = theta.shape
    log_prior = prior.log_prob(theta.reshape(members * count, n), layout).view(members, count)
    entropy = q.entropy(variational)
    if entropy is None:
        return (q.log_prob(variational, theta) - log_prior).mean(-1)
    return -entropy - log_prior.mean(-1)


def _draw(q: Posterior, variational: Variational, samples: int, generator: torch.Generator | None) -> Tensor:
    if samples < 1:
        raise UserError(f"samples={samples!r}: expected at least 1")
    if generator is None:
        generator = torch.Generator(variational["params"].device).manual_seed(0)
    return q.sample(variational, samples, generator, antithetic=True)


@register_kl(Normal, GaussianPrior)
@register_kl(StudentT, GaussianPrior)
@register_kl(LowRankNormal, GaussianPrior)
@register_kl(FullNormal, GaussianPrior)
def _to_gaussian(q: Posterior, variational: Variational, prior: Prior, layout: ParameterLayout) -> Tensor:
    """-H(q) + 1/2 sum (mean^2 + std^2) / s^2 + sum log s + n/2 log(2 pi): a normal log density needs two moments."""
    mean, std, entropy = q.mean(variational), q.std(variational), q.entropy(variational)
    assert entropy is not None
    precision, constant = _precision(prior, layout, mean.device, mean.dtype)
    return 0.5 * (mean.square() + std.square()) @ precision - entropy + constant


def _precision(prior: Prior, layout: ParameterLayout, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, float]:
    """1 / s^2 (n,), and sum log s + n/2 log(2 pi)."""
    try:
        hash(prior)
    except TypeError:  # a user's prior may hold lists or dicts
        return _compute_precision(prior, layout, device, dtype)
    return _cached_precision(prior, layout, device, dtype)


@torch.inference_mode(False)  # cached: an inference tensor would fail in a later fit
def _compute_precision(
    prior: Prior, layout: ParameterLayout, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, float]:
    std = prior.std(layout).double()
    constant = float(std.log().sum()) + 0.5 * layout.total * math.log(2 * math.pi)
    return std.square().reciprocal().to(device, dtype), constant


_cached_precision = lru_cache(maxsize=64)(_compute_precision)
