"""The narrow waist: a draw is a batch of S fixed functions, each with its own noise.

Every method ends in a :class:`Draw`; nothing above this folder knows which method made it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods import Likelihood
from dynapilco.inference.stack import DenseStack

Affine = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Draw(ABC):
    """S fixed functions.

    Attributes
    ----------
    size : int
        S.
    noise : Tensor
        Constrained noise parameters of each function, (S, k); for a Gaussian likelihood its standard deviations.
    likelihood : Likelihood
    """

    size: int
    noise: Tensor
    likelihood: Likelihood

    @abstractmethod
    def each(self, x: Tensor) -> Tensor:
        """Evaluate function s on its own batch: x (S, P, *in) -> (S, P, *out)."""

    @abstractmethod
    def fold(self, inputs: Affine | None = None, outputs: Affine | None = None) -> Draw:
        """Absorb affine maps: new f(z) = c * f(a * z + b) + d for inputs=(a, b), outputs=(c, d).

        The noise follows the targets to their new unit (a Gaussian's scale is multiplied by ``|c|``).
        """

    @abstractmethod
    def project(self, matrix: Tensor) -> Draw:
        """The same functions of z where the old input is ``z @ matrix`` (matrix (in_new, in))."""

    @property
    def scale(self) -> Tensor:
        """Noise standard deviation of each function, (S, out); ``UserError`` where it is not constant."""
        return self.likelihood.scale(self.noise)

    def dense(self, particles: int) -> DenseStack | None:
        """The draw as explicit dense layers for ``particles`` per function, or None where it is not one."""
        return None

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate all functions on one batch: x (B, *in) -> (S, B, *out)."""
        return self.each(x.expand(self.size, *x.shape))

    def predictive(self, x: Tensor) -> Distribution:
        """Each function's distribution over targets: x (B, *in) -> batch shape (S, B, out)."""
        return self.likelihood.distribution(self.noise, columns(self(x)))

    def _check_each(self, x: Tensor) -> None:
        if x.shape[0] != self.size:
            raise UserError(f"each: x has {x.shape[0]} batches, the draw has {self.size} functions")


def columns(f: Tensor) -> Tensor:
    """Outputs (S, B, *out) as (S, B, width): what likelihoods take."""
    return f if f.dim() == 3 else f.reshape(*f.shape[:2], -1)


def compose(old: Affine | None, new: Affine | None, *, outer_first: bool) -> Affine | None:
    """One affine map for two: ``new`` inside ``old`` (inputs), or outside of it (``outer_first``, outputs)."""
    if old is None or new is None:
        return new if old is None else old
    (a, b), (c, d) = (new, old) if outer_first else (old, new)  # the result is z -> a * (c * z + d) + b
    return a * c, a * d + b


def spread(stored: int, size: int, generator: torch.Generator) -> Tensor:
    """Indices (size,) into ``stored`` functions, as even as can be: without repeats while size <= stored."""
    if size < 1:
        raise UserError(f"draw size {size}: expected at least 1")
    whole, rest = divmod(size, stored)
    extra = torch.randperm(stored, generator=generator, device=generator.device)[:rest].sort().values
    return torch.cat([torch.arange(stored, device=generator.device).repeat(whole), extra])
