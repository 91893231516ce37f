"""Any ``torch.distributions`` object as a prior."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.priors.base import Prior, register_prior
from dynapilco.inference.random import sample_distribution

DRAWS = 4096
"""Samples for the spread of a distribution that has neither a standard deviation nor quantiles."""
ONE_SIGMA = 0.8413447460685429


@register_prior("torch", "distribution")
@dataclass(frozen=True)
class TorchPrior(Prior):
    """Every weight follows ``distribution``.

    Attributes
    ----------
    distribution : torch.distributions.Distribution
        Of single real numbers. Its batch shape is () or broadcasts to the shape of every parameter that it is for.

    Raises
    ------
    UserError
        For another support (naming it), and for distributions of whole vectors.
    """

    distribution: Distribution

    def __post_init__(self) -> None:
        _require_real(self.distribution)

    @property
    def gaussian(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Exactly N(0, std^2): a normal distribution around 0."""
        return type(self.distribution) is Normal and not bool(self.distribution.loc.any())

    @cached_property
    def _unchecked(self) -> Distribution:
        """Without argument checks: numbers that go bad are for the fit to report, with method and step."""
        plain = copy.copy(self.distribution)
        plain._validate_args = False
        return plain

    def log_prob(self, params: Tensor, layout: ParameterLayout) -> Tensor:
        """Sum over weights: params (S, n) -> (S,)."""
        if self._single:
            return self._unchecked.log_prob(params).to(params.dtype).sum(-1)
        self._fit(layout)
        pieces = [self._unchecked.log_prob(p).flatten(1).sum(-1) for p in layout.split(params).values()]
        return torch.stack(pieces).sum(0).to(params.dtype)

    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors."""
        if self._single:
            flat = sample_distribution(self.distribution, (size, layout.total), generator)
            return self._placed(flat.reshape(size, -1), generator)
        self._fit(layout)
        pieces = [sample_distribution(self.distribution.expand(s), (size,), generator) for s in layout.shapes]
        return self._placed(torch.cat([piece.flatten(1) for piece in pieces], -1), generator)

    def std(self, layout: ParameterLayout) -> Tensor:
        """Standard deviation of each weight, (n,); where it is infinite, from the central 68.3 % interval."""
        self._fit(layout)
        spread = _spread(self.distribution).detach().to(torch.get_default_dtype())
        if self._single:
            return spread.reshape(1).repeat(layout.total)
        return torch.cat([spread.expand(shape).flatten() for shape in layout.shapes])

    @property
    def _single(self) -> bool:
        return self.distribution.batch_shape.numel() == 1

    def _placed(self, flat: Tensor, generator: torch.Generator) -> Tensor:
        return flat.to(generator.device, torch.get_default_dtype())

    def _fit(self, layout: ParameterLayout) -> None:
        """Raise where the batch shape does not broadcast to each parameter."""
        own = tuple(self.distribution.batch_shape)
        for name, shape in () if self._single else zip(layout.names, layout.shapes, strict=True):
            tail = tuple(shape)[max(len(shape) - len(own), 0) :]
            if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own, tail, strict=True)):
                raise UserError(
                    f"prior {type(self.distribution).__name__} has batch shape {own}, which does not broadcast to "
                    f"parameter {name!r} of shape {tuple(shape)}: give it a scalar shape, or each parameter its own by "
                    "a mapping of names to priors"
                )


def _require_real(distribution: object) -> None:
    if not isinstance(distribution, Distribution):
        raise UserError(f"distribution={distribution!r}: expected a torch.distributions object")
    name = type(distribution).__name__
    if distribution.event_shape:
        raise UserError(
            f"prior {name} is a distribution of tensors of shape {tuple(distribution.event_shape)}: expected one of "
            "single numbers, for each weight by itself"
        )
    support = distribution.support
    while hasattr(support, "base_constraint"):  # of independent copies, and of mixtures
        support = support.base_constraint  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    if support is not constraints.real:
        raise UserError(
            f"prior {name} has the support {distribution.support}, but weights take all real numbers: choose a "
            "distribution such as Normal, StudentT, Laplace or Cauchy"
        )


def _spread(distribution: Distribution) -> Tensor:
    try:
        std = distribution.stddev
        if torch.isfinite(std).all():
            return std
    except NotImplementedError:  # then from quantiles
        pass
    levels = torch.tensor([ONE_SIGMA, 1 - ONE_SIGMA])
    try:
        high, low = (distribution.icdf(level) for level in levels)
    except NotImplementedError:  # then from samples
        draws = sample_distribution(distribution, (DRAWS,), torch.Generator().manual_seed(0))
        high, low = torch.quantile(draws, levels.to(draws), dim=0)
    return 0.5 * (high - low)
