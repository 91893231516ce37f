"""What a prior over the weights is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.core.registry import Registry
from dynapilco.inference.layout import ParameterLayout

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
            (second,) = torch.autograd.grad(first.sum(), leaf)  # elementwise independent: the Hessian is diagonal
        return -second


def register_prior(name: str, *aliases: str) -> Callable[[P], P]:
    """Class decorator: reach a prior (a frozen dataclass) as ``prior="name"``.

    Raises
    ------
    UserError
        Where the class misses something that a prior needs, naming it.
    """

    def add(cls: P) -> P:
        if not (isinstance(cls, type) and issubclass(cls, Prior)):
            raise UserError(f"register_prior({name!r}): {cls!r} is not a subclass of Prior")
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        if missing:
            raise UserError(f"register_prior({name!r}): {cls.__name__} does not define {', '.join(missing)}")
        return PRIORS.register(name, *aliases)(cls)  # pyright: ignore[reportReturnType]

    return add


def make_prior(spec: str | Prior, **kwargs: Any) -> Prior:
    """A prior from its name (and options) or from itself."""
    if isinstance(spec, Prior):
        return spec
    return PRIORS[spec](**kwargs)
