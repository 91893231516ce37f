"""What an inference method is, and the loop that trains any of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.core.registry import Registry
from dynapilco.inference.draws import Draw
from dynapilco.inference.target import BayesianModel, Target

State = dict[str, Tensor]
"""All that a method has learned, as named tensors: what a checkpoint holds."""

Metrics = dict[str, float]
M = TypeVar("M", bound=type)

METHODS: Registry[type] = Registry("inference method")


@runtime_checkable
class Optimiser(Protocol):
    """Whatever a method keeps between the steps of one fit, and only for that fit."""

    def step(self, generator: torch.Generator) -> Tensor:
        """Do one update of all members in place and return the potential per row, (S,)."""
        ...


class InferenceMethod(Protocol):
    """Hyper-parameters (a frozen dataclass) and four functions of state."""

    def init(self, model: BayesianModel, generator: torch.Generator) -> State:
        """A fresh state, before data."""
        ...

    def start(self, state: State, target: Target, steps: int) -> Optimiser:
        """Begin a fit of ``steps`` updates from ``state`` (warm when it was fitted before)."""
        ...

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` functions from the posterior that ``state`` stands for."""
        ...

    def steps(self, *, warm: bool) -> int:
        """Number of updates of a cold or a warm fit."""
        ...

    def natural_draws(self, particles: int) -> int:
        """How many different functions suit a cloud of ``particles`` (an ensemble: its members; dropout: all)."""
        ...


def register_inference(name: str, *aliases: str) -> Callable[[M], M]:
    """Class decorator: make a frozen dataclass of hyper-parameters an inference method called ``name``."""
    return METHODS.register(name, *aliases)  # pyright: ignore[reportReturnType]


def make_method(name: str, kwargs: dict[str, Any] | None = None) -> InferenceMethod:
    """Build a method by name.

    Raises
    ------
    UserError
        For an unknown name or an unknown hyper-parameter, naming the valid ones.
    """
    cls = METHODS[name]
    assert is_dataclass(cls)
    valid = [f.name for f in fields(cls)]
    for key in kwargs or {}:
        if key not in valid:
            raise UserError(f"inference {name!r} has no option {key!r}: valid options are {', '.join(valid)}")
    method: InferenceMethod = cls(**(kwargs or {}))  # pyright: ignore[reportAssignmentType]
    return method


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes
    ----------
    steps : int
    potential : float
        Mean over members of U / N at the last step, in nats a row.
    diverged : bool
        The fit met non-finite numbers and went back to the last good state.
    """

    steps: int
    potential: float
    diverged: bool


CHECK_EVERY = 50

ABSURD = 1e6
"""Rise of the potential, in nats a row, that no optimiser or sampler makes unless it diverged."""


def fit(
    method: InferenceMethod,
    state: State,
    target: Target,
    generator: torch.Generator,
    *,
    steps: int,
    callback: Callable[[int, int, Metrics], None] | None = None,
) -> FitReport:
    """Train ``state`` in place on ``target``.

    Every ``CHECK_EVERY`` steps the state is checked: when it is finite, and the potential is not absurdly above where
    it began, it is kept as the last good one; otherwise the last good one is put back and the fit ends with
    ``diverged=True``.

    Parameters
    ----------
    callback : callable, optional
        Called as ``callback(done, steps, metrics)`` at each check.
    """
    optimiser = method.start(state, target, steps)
    good = {name: tensor.detach().clone() for name, tensor in state.items()}
    potential, last, began = float("nan"), float("nan"), math.inf
    for step in range(1, steps + 1):
        values = optimiser.step(generator)
        if step == 1:
            began = float(values.mean())
        if step % CHECK_EVERY and step != steps:
            continue
        last = float(values.mean())
        if not _finite(state, last) or last > began + ABSURD:
            for name, tensor in state.items():
                tensor.detach().copy_(good[name])
                tensor.requires_grad_(False)
            return FitReport(step, potential, diverged=True)
        potential = last
        good = {name: tensor.detach().clone() for name, tensor in state.items()}
        if callback is not None:
            callback(step, steps, {"potential": potential})
    return FitReport(steps, potential, diverged=False)


def _finite(state: State, potential: float) -> bool:
    return math.isfinite(potential) and all(bool(torch.isfinite(t).all()) for t in state.values())
