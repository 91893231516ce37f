"""What a prior over the weights is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from dynapilco.core.registry import Registry
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.likelihoods.feedback import build, refuse_options, require_class, split_spec
from dynapilco.inference.priors.checks import check_shapes

P = TypeVar("P", bound=type)

PRIORS: Registry[type] = Registry("prior")


class Prior(ABC):
    """A distribution over the flat vector of n Bayesian weights, independent from weight to weight.

    Attributes
    ----------
    gaussian : bool
        Exactly N(0, diag(std^2)): lets methods use closed forms.
    """

    gaussian: ClassVar[bool] = False

    @abstractmethod
    def log_prob(self, params: Tensor, layout: ParameterLayout) -> Tensor:
        """Normalised log density of params (S, n) -> (S,), nats."""

    @abstractmethod
    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors."""

    @abstractmethod
    def std(self, layout: ParameterLayout) -> Tensor:
        """Characteristic spread of each weight, (n,): its standard deviation, or a robust one if infinite."""

    def curvature(self, params: Tensor, layout: ParameterLayout) -> Tensor:
        """-d^2 log p / d theta_i^2 at params (S, n), shape (S, n)."""
        if self.gaussian:
            return self.std(layout).to(params).square().reciprocal().expand_as(params)
        with torch.enable_grad():
            leaf = params.detach().requires_grad_(True)
            (first,) = torch.autograd.grad(self.log_prob(leaf, layout).sum(), leaf, create_graph=True)
            if not first.requires_grad:  # piecewise linear
                return torch.zeros_like(params)
            (second,) = torch.autograd.grad(first.sum(), leaf)  # elementwise independent: the Hessian is diagonal
        return -second

    def check(self, layout: ParameterLayout) -> None:
        """Raise ``UserError`` where this prior does not suit the parameters of ``layout``."""
        self.std(layout)


def register_prior(name: str, *aliases: str) -> Callable[[P], P]:
    """Class decorator: reach a prior (a frozen dataclass) as ``prior="name"``.

    The class is tried on a tiny example at once, if it can be made without arguments.

    Raises
    ------
    UserError
        Where the class misses something that a prior needs, where a function has another signature or returns another
        shape than it should, where ``sample`` ignores its generator, or where ``gaussian`` is claimed wrongly.

    Examples
    --------
    >>> import math
    >>> from dataclasses import dataclass
    >>> import torch
    >>> from dynapilco.inference import Prior, register_prior
    >>> @register_prior("logistic")
    ... @dataclass(frozen=True)
    ... class Logistic(Prior):
    ...     scale: float = 1.0
    ...
    ...     def log_prob(self, params, layout):
    ...         z = params / self.scale
    ...         return (-z - 2 * torch.nn.functional.softplus(-z)).sum(-1) - layout.total * math.log(self.scale)
    ...
    ...     def sample(self, layout, size, generator):
    ...         return self.scale * torch.rand(size, layout.total, generator=generator, device=generator.device).logit()
    ...
    ...     def std(self, layout):
    ...         return torch.full((layout.total,), self.scale * math.pi / 3**0.5)
    """

    def add(cls: P) -> P:
        where = f"register_prior({name!r})"
        require_class(where, cls, Prior)
        check_shapes(where, cls, own_curvature=cls.curvature is not Prior.curvature)
        return PRIORS.register(name, *aliases)(cls)  # pyright: ignore[reportReturnType]

    return add


def make_prior(spec: str | Prior | Distribution | Mapping[str, Any] | tuple[str, Any], **kwargs: Any) -> Prior:
    """A prior from what a user writes.

    Parameters
    ----------
    spec : str, (str, options), Prior, torch.distributions.Distribution or mapping
        A name (with options by ``kwargs``); a prior; a distribution for every weight; or patterns of parameter names,
        each with its prior (see ``PerLayer``).

    Raises
    ------
    UserError
        For unknown names and options, listing the valid ones, for options beside an object, and for a distribution of
        a wrong support.
    """
    if isinstance(spec, Prior | Distribution | Mapping):
        refuse_options("prior", spec, kwargs)
    if isinstance(spec, Prior):
        return spec
    if isinstance(spec, Distribution):
        return PRIORS["torch"](distribution=spec)
    if isinstance(spec, Mapping):
        return PRIORS["per_layer"](layers=spec)
    name, options = split_spec(spec)
    return build(PRIORS, name, {**options, **kwargs})
