"""What an observation model is: how targets scatter around the outputs of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from dynapilco.core.errors import UserError
from dynapilco.core.registry import Registry
from dynapilco.inference.likelihoods.checks import check_shapes
from dynapilco.inference.likelihoods.feedback import build, refuse_options, require_class, split_spec

L = TypeVar("L", bound=type)

LIKELIHOODS: Registry[type] = Registry("likelihood")


class Likelihood(ABC):
    """p(y | f): targets y given network outputs f and a few noise parameters of each member.

    Two forms of the noise parameters occur. *Raw* ones, (S, k), are unconstrained: training moves them. *Constrained*
    ones, (S, k), are what a draw carries (for a Gaussian: sigma); ``constrain`` maps the first to the second.

    Attributes
    ----------
    discrete : bool
        Targets are classes or counts.
    """

    discrete: ClassVar[bool] = False

    def network_outputs(self, outputs: int) -> int:
        """Width of f that ``outputs`` target columns need."""
        return outputs

    def target_columns(self, width: int) -> int:
        """Target columns that a network of output width ``width`` serves; raises ``UserError`` where it fits none."""
        return width

    def for_network(self, width: int) -> Likelihood:
        """The same likelihood, with options that follow from the network's output width filled in."""
        return self

    @abstractmethod
    def init(self, members: int, outputs: int) -> Tensor:
        """Raw noise parameters (members, k) before training; k may be 0."""

    def constrain(self, raw: Tensor) -> Tensor:
        """Constrained noise parameters, (S, k), from raw ones."""
        return raw

    @abstractmethod
    def distribution(self, noise: Tensor, f: Tensor) -> Distribution:
        """Each function's distribution over targets.

        Parameters
        ----------
        noise : Tensor
            Constrained parameters, (S, k).
        f : Tensor
            Outputs, (S, B, width).

        Returns
        -------
        Distribution
            Batch shape (S, B, out).
        """

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Log density of each row, summed over target columns.

        Parameters
        ----------
        raw : Tensor
            (S, k).
        f : Tensor
            (S, B, width).
        y : Tensor
            (B, out) or (S, B, out).

        Returns
        -------
        Tensor
            (S, B), nats.
        """
        return self.distribution(self.constrain(raw), f).log_prob(y).sum(-1)

    def total_log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Sum of ``log_prob`` over all rows, (S,); subclasses may have a cheaper way."""
        return self.log_prob(raw, f, y).sum(-1)

    def log_prior(self, raw: Tensor) -> Tensor:
        """Log density, (S,), of a weak prior on the raw noise parameters: it keeps samplers proper."""
        return raw.new_zeros(raw.shape[0])

    def prepare(self, y: Tensor, outputs: int) -> Tensor:
        """Bring targets to (..., N, out) and check them.

        Raises
        ------
        UserError
            For targets outside the support, naming what was expected.
        """
        if not torch.is_floating_point(y):
            raise UserError(
                f"y has dtype {y.dtype}: likelihood {type(self).__name__} expects real numbers; convert y with "
                "y.float(), or choose likelihood='categorical', 'bernoulli' or 'poisson'"
            )
        if y.dim() not in (2, 3):
            raise UserError(f"y has shape {tuple(y.shape)}: expected (N, out) or (S, N, out)")
        if y.shape[-1] != outputs:
            raise UserError(f"y has {y.shape[-1]} columns, the model has {outputs} outputs")
        return y

    def scale(self, noise: Tensor) -> Tensor:
        """Standard deviation (S, out) of the noise, for likelihoods where it does not depend on f."""
        raise UserError(f"likelihood {type(self).__name__} has no constant noise scale: use draw.predictive(x)")

    def fold(self, noise: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move targets to ``scale * y + shift``: new (noise, scale of f, shift of f); ``UserError`` if impossible."""
        raise UserError(f"likelihood {type(self).__name__} cannot be rescaled: its targets have no unit")


def register_likelihood(name: str, *aliases: str) -> Callable[[L], L]:
    """Class decorator: reach a likelihood (a frozen dataclass) as ``likelihood="name"``.

    The class is tried on a tiny example at once, if it can be made without arguments.

    Raises
    ------
    UserError
        Where the class misses something that a likelihood needs, where a function has another signature, returns
        another shape than it should, or where ``log_prob`` and ``distribution`` disagree.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import torch
    >>> from dynapilco.inference import Likelihood, register_likelihood
    >>> @register_likelihood("laplace_noise")
    ... @dataclass(frozen=True)
    ... class LaplaceNoise(Likelihood):
    ...     def init(self, members, outputs):
    ...         return torch.zeros(members, outputs)
    ...
    ...     def constrain(self, raw):
    ...         return raw.exp()
    ...
    ...     def distribution(self, noise, f):
    ...         return torch.distributions.Laplace(f, noise.unsqueeze(-2))
    """

    def add(cls: L) -> L:
        where = f"register_likelihood({name!r})"
        require_class(where, cls, Likelihood)
        check_shapes(where, cls)
        return LIKELIHOODS.register(name, *aliases)(cls)  # pyright: ignore[reportReturnType]

    return add


def make_likelihood(spec: str | Likelihood | tuple[str, Any], **kwargs: Any) -> Likelihood:
    """A likelihood from its name and options, from a pair (name, options), or from itself.

    Raises
    ------
    UserError
        For unknown names and options, listing the valid ones, and for options beside an object.
    """
    if isinstance(spec, Likelihood):
        refuse_options("likelihood", spec, kwargs)
        return spec
    name, options = split_spec(spec)
    return build(LIKELIHOODS, name, {**options, **kwargs})
