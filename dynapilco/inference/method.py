"""What an inference method is: hyper-parameters, and a few functions of a state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError, unknown_name
from dynapilco.core.registry import Registry
from dynapilco.inference.draws import Draw, spread
from dynapilco.inference.target import Batch, BayesianModel, Target

State = dict[str, Tensor]
"""All that a method knows, as named tensors: what a checkpoint holds.

Every tensor but those of dimension 0 has the member axis first. ``params`` (S, n) and ``points`` (S, k + m) are
always there (see ``BayesianModel``).
"""

Metrics = dict[str, float]
M = TypeVar("M", bound=type)

MOST_SETS = 50
"""Different sets of weights in a cloud of particles, unless the caller says otherwise."""

METHODS: Registry[type] = Registry("inference method")


@dataclass(frozen=True)
class Clock:
    """Where a fit stands: ``done`` updates of ``steps`` lie behind it.

    ``epoch_end`` says that this update completes a pass over the data (with full batches: always).
    """

    done: int
    steps: int
    epoch_end: bool = True

    @property
    def last(self) -> bool:
        """Whether this is the last update."""
        return self.done + 1 == self.steps


@dataclass(frozen=True)
class InferenceMethod(ABC):
    """Hyper-parameters that all methods share; a method is a frozen dataclass below this one.

    Attributes
    ----------
    members : int
        S, networks (or chains) trained at once for a data set.
    batch_size : int or None
        Rows of a minibatch; None is the full batch. All scaling by N / B is done by the target.
    temperature : float
        T: the target is the posterior to the power 1 / T (``bbb``: likelihood to the power 1 / T, prior as it is).
        Without effect on point estimates.
    cold_steps, warm_steps : int
        Updates of the first fit and of each later one, when the data have grown.
    """

    members: int = 1
    batch_size: int | None = None
    temperature: float = 1.0
    cold_steps: int = 2000
    warm_steps: int = 1000

    has_loss: ClassVar[bool] = False
    full_batch: ClassVar[bool] = False
    """Whether updates need all rows at once."""
    suggested_hidden: ClassVar[tuple[int, ...]] = (64, 64)
    """Widths of hidden layers that suit the method, for callers that leave the choice to it."""

    def __post_init__(self) -> None:
        require_given(self)
        require_whole(self, "members", "cold_steps", "warm_steps", "batch_size")
        require_at_least(self, 1, "members", "cold_steps", "warm_steps", "batch_size")
        require_positive(self, "temperature")

    @abstractmethod
    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """A fresh state of ``replicas * members`` members, before data.

        ``replicas`` is the number of data sets that are fitted at once (R of a ``Target``); members of one data set
        are neighbours.
        """

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:  # noqa: B027
        """Prepare a fit from ``state``, cold or warm: reset momenta, forget samples of older data."""

    @abstractmethod
    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """Update all members in place, once; return their potentials U on the batch, (S,)."""

    def finish(self, state: State, target: Target, generator: torch.Generator) -> None:  # noqa: B027
        """Conclude a fit (Laplace: the curvature)."""

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` functions from the posterior that ``state`` (of one data set) stands for.

        This default spreads over the members as they are.
        """
        index = spread(state["params"].shape[0], size, generator)
        return model.functions(state["params"][index], state["points"][index])

    def metrics(self, state: State) -> Metrics:
        """What to report beside the potential: acceptance, divergences, spread, ..."""
        return {}

    def refusal(self, model: BayesianModel) -> str | None:
        """Why this method cannot treat ``model``, or None: checked before any work."""
        return None

    def check(self, model: BayesianModel) -> None:
        """Raise ``UserError`` where this method cannot treat ``model``."""
        reason = self.refusal(model)
        if reason is not None:
            raise UserError(f"inference {name_of(self)!r}: {reason}")

    def steps(self, *, warm: bool) -> int:
        """Number of updates of a cold or a warm fit."""
        return self.warm_steps if warm else self.cold_steps

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """How many different functions suit a cloud of ``particles``: all different, unless a method has only a few.

        Parameters
        ----------
        particles : int
        most : int
            Where each function is a whole set of weights, not more than this: they are what a rollout pays for.
        """
        return min(particles, most)


def replica(state: State, index: int, replicas: int) -> State:
    """The members of data set ``index`` out of ``replicas``, as a state of their own (views)."""

    def take(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0:
            return tensor
        share = tensor.shape[0] // replicas
        return tensor[index * share : (index + 1) * share]

    return {name: take(tensor) for name, tensor in state.items()}


def require_given(options: Any) -> None:
    """Raise ``UserError`` where an option is None that is not declared as optional."""
    for option in fields(options):
        if getattr(options, option.name) is None and "None" not in str(option.type) and option.default is not None:
            raise UserError(f"{option.name}=None: expected a value, {option.default!r} by default")


def require_whole(options: object, *names: str) -> None:
    """Raise ``UserError`` where an option (other than None) is not an integer."""
    for name in names:
        value = getattr(options, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UserError(f"{name}={value!r}: expected a whole number")


def require_at_least(options: object, least: float, *names: str) -> None:
    """Raise ``UserError`` where an option (other than None) lies below ``least``."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise UserError(f"{name}={value!r}: expected at least {least}")


def require_positive(options: object, *names: str) -> None:
    """Raise ``UserError`` where an option (other than None) is not a finite number above 0."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise UserError(f"{name}={value!r}: expected a finite number above 0")


def require_one_of(options: object, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ``UserError`` where option ``name`` is none of ``allowed``."""
    if getattr(options, name) not in allowed:
        raise unknown_name(name, getattr(options, name), list(allowed))


def register_inference(name: str, *aliases: str) -> Callable[[M], M]:
    """Class decorator: make a frozen dataclass of hyper-parameters an inference method called ``name``.

    Raises
    ------
    UserError
        Where the class is not a frozen dataclass below ``InferenceMethod`` or misses a function, naming it.
    """

    def add(cls: M) -> M:
        if not (isinstance(cls, type) and issubclass(cls, InferenceMethod)):
            raise UserError(f"register_inference({name!r}): {cls!r} is not a subclass of InferenceMethod")
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        if missing:
            raise UserError(f"register_inference({name!r}): {cls.__name__} does not define {', '.join(missing)}")
        if not cls.__dict__.get("__dataclass_params__") or not cls.__dict__["__dataclass_params__"].frozen:
            raise UserError(f"register_inference({name!r}): decorate {cls.__name__} with @dataclass(frozen=True) below")
        return METHODS.register(name, *aliases)(cls)  # pyright: ignore[reportReturnType]

    return add


def make_method(spec: str | InferenceMethod, kwargs: dict[str, Any] | None = None) -> InferenceMethod:
    """Build a method by name, or pass one through.

    Raises
    ------
    UserError
        For an unknown name or an unknown hyper-parameter, naming the valid ones.
    """
    if isinstance(spec, InferenceMethod):
        if kwargs:
            raise UserError("inference_kwargs: give options by the method object or by keywords, not by both")
        return spec
    cls = METHODS[spec]
    valid = [f.name for f in fields(cls)]
    for key in kwargs or {}:
        if key not in valid:
            raise UserError(f"inference {spec!r} has no option {key!r}: valid options are {', '.join(valid)}")
    return cls(**(kwargs or {}))


def name_of(method: InferenceMethod) -> str:
    """The registered name of a method, or its class name."""
    return next((name for name, cls in METHODS.items() if cls is type(method)), type(method).__name__)
