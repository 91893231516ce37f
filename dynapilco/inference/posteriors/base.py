"""What a variational family is: a distribution over the flat vector of weights that can be sampled and differentiated.

A *variational* is a dict of tensors, member axis first: ``params`` (S, n), the location, and those that the family adds
(``tensors``). The state of a method that uses a family holds them under the same names, so it can be passed as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.core.registry import Registry

Q = TypeVar("Q", bound=type)
Variational = Mapping[str, Tensor]

POSTERIORS: Registry[type] = Registry("posterior")


class Posterior(ABC):
    """A family of distributions q over n weights; subclasses are frozen dataclasses of options."""

    @property
    @abstractmethod
    def tensors(self) -> tuple[str, ...]:
        """Names of the variational tensors beside ``params``."""

    @abstractmethod
    def init(self, loc: Tensor, scale: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Variational tensors, ``params`` among them, for a location and a standard deviation of each weight.

        Parameters
        ----------
        loc : Tensor, shape (S, n)
        scale : Tensor, shape (n,) or (S, n)
        generator : torch.Generator
        """

    @abstractmethod
    def sample(
        self, variational: Variational, samples: int, generator: torch.Generator, *, antithetic: bool = False
    ) -> Tensor:
        """Draw (S, K, n) weights for K = ``samples``, differentiable in the variational tensors.

        With ``antithetic``, samples come in pairs mirrored at the location, which cancels the odd part of the noise of
        a gradient.
        """

    @abstractmethod
    def log_prob(self, variational: Variational, theta: Tensor) -> Tensor:
        """Log density of weights (S, K, n) -> (S, K), nats."""

    @abstractmethod
    def std(self, variational: Variational) -> Tensor:
        """Standard deviation of each weight, (S, n)."""

    def mean(self, variational: Variational) -> Tensor:
        """Mean of each weight, (S, n)."""
        return variational["params"]

    def entropy(self, variational: Variational) -> Tensor | None:
        """Differential entropy (S,), nats, or None where it has no closed form."""
        return None

    def refusal(self, weights: int) -> str | None:
        """Why the family cannot stand for ``weights`` weights, or None."""
        return None


def normal_noise(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator, *, antithetic: bool = False
) -> Tensor:
    """Standard normal numbers (S, K, ...) of the kind of ``like``; with ``antithetic``, half of K negates the rest.

    An odd K keeps one sample without a mirror image.
    """
    if not antithetic or shape[1] < 2:
        return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
    half = (shape[1] + 1) // 2
    first = torch.randn((shape[0], half, *shape[2:]), generator=generator, device=like.device, dtype=like.dtype)
    return torch.cat([first, -first[:, : shape[1] - half]], dim=1)


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is ``value`` (above 0)."""
    return value + torch.log(-torch.expm1(-value))


def register_posterior(name: str, *aliases: str) -> Callable[[Q], Q]:
    """Class decorator: reach a variational family (a frozen dataclass) as ``posterior="name"``.

    Raises
    ------
    UserError
        Where the class misses something that a family needs, naming it. The shapes that its functions return are
        checked when it is first made.
    """

    def add(cls: Q) -> Q:
        label = f"register_posterior({name!r})"
        if not (isinstance(cls, type) and issubclass(cls, Posterior)):
            raise UserError(f"{label}: {cls!r} is not a subclass of Posterior")
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        if missing:
            raise UserError(f"{label}: {cls.__name__} does not define {', '.join(missing)}")
        if not cls.__dict__.get("__dataclass_params__") or not cls.__dict__["__dataclass_params__"].frozen:
            raise UserError(f"{label}: decorate {cls.__name__} with @dataclass(frozen=True) below")
        return POSTERIORS.register(name, *aliases)(cls)  # pyright: ignore[reportReturnType]

    return add


def check_family(q: Posterior) -> None:
    """Try a family on S = 2 members, n = 3 weights and K = 5 samples.

    Raises
    ------
    UserError
        Naming the function that returns something else than a family should.
    """
    label = f"posterior {type(q).__name__}"
    generator = torch.Generator().manual_seed(0)
    variational = q.init(torch.zeros(2, 3), torch.full((3,), 0.1), generator)
    wanted = {"params", *q.tensors}
    if set(variational) != wanted:
        raise UserError(f"{label}: init returns {sorted(variational)}, expected {sorted(wanted)} (params and tensors)")
    for key, tensor in variational.items():
        if tensor.shape[:1] != (2,):
            raise UserError(f"{label}: init returns {key} {tuple(tensor.shape)}, expected the member axis (2) first")
    theta = q.sample(variational, 5, generator, antithetic=True)
    _check_shape(label, "sample", theta, (2, 5, 3))
    _check_shape(label, "log_prob", q.log_prob(variational, theta), (2, 5))
    _check_shape(label, "mean", q.mean(variational), (2, 3))
    _check_shape(label, "std", q.std(variational), (2, 3))
    _check_shape(label, "entropy", q.entropy(variational), (2,))


def _check_shape(label: str, function: str, result: Tensor | None, shape: tuple[int, ...]) -> None:
    if result is not None and tuple(result.shape) != shape:
        tried = "S=2 members, K=5 samples and n=3 weights"
        raise UserError(f"{label}: {function} returns shape {tuple(result.shape)} for {tried}, expected {shape}")


def make_posterior(spec: str | Posterior, **kwargs: Any) -> Posterior:
    """A variational family from its name (and options) or from itself.

    Raises
    ------
    UserError
        For an unknown name or option, options beside an object, and a family whose functions return other shapes.
    """
    if isinstance(spec, Posterior):
        if kwargs:
            raise UserError(
                f"posterior_kwargs={kwargs!r}: give options by the posterior object or by name, not by both"
            )
        check_family(spec)
        return spec
    cls = POSTERIORS[spec]
    valid = list(cls.__dataclass_fields__)
    for key in kwargs:
        if key not in valid:
            options = f"valid options are {', '.join(valid)}" if valid else "it has none"
            raise UserError(f"posterior {spec!r} has no option {key!r}: {options}")
    family = cls(**kwargs)
    check_family(family)
    return family
