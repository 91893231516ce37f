"""The loop that trains any method: minibatches, checks, divergence, and going on where it stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.seeding import torch_generator
from dynapilco.inference.method import Clock, InferenceMethod, Metrics, State
from dynapilco.inference.target import Target

CHECK_EVERY = 50

ABSURD = 1e6
"""Rise of the potential, in nats a row, that no optimiser or sampler makes unless it diverged."""

NUMBERS = ("seed", "done", "steps", "potential", "began", "diverged")

Callback = Callable[[int, int, Metrics], None]


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes
    ----------
    steps : int
        Updates that were made.
    potential : float
        Mean over members of U / N at the last check, in nats a row.
    diverged : bool
        The fit met non-finite numbers and went back to the last good state.
    """

    steps: int
    potential: float
    diverged: bool


class Fit:
    """One fit in progress: it can be advanced, written down and taken up again.

    Every ``CHECK_EVERY`` steps the state is checked: when it is finite, and the potential is not absurdly above where
    it began, it is kept as the last good one; otherwise the last good one is put back and the fit is over.

    Parameters
    ----------
    method : InferenceMethod
    state : State
        Trained in place.
    target : Target
    generator : torch.Generator
    steps : int
        Length of the whole fit: schedules depend on it.
    """

    def __init__(
        self, method: InferenceMethod, state: State, target: Target, generator: torch.Generator, steps: int
    ) -> None:
        method.check(target.model)
        self._set(method, state, target, generator, steps)
        self.seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        method.begin(state, target, generator)
        self._good = _copy(state)

    def _set(
        self, method: InferenceMethod, state: State, target: Target, generator: torch.Generator, steps: int
    ) -> None:
        self.method, self.state, self.target, self.generator, self.steps = method, state, target, generator, steps
        self.done, self.potential, self.began, self.diverged = 0, math.nan, math.inf, False
        self._order: tuple[int, Tensor] | None = None

    @property
    def finished(self) -> bool:
        """No updates are left."""
        return self.diverged or self.done >= self.steps

    def advance(self, steps: int, callback: Callback | None = None) -> None:
        """Do up to ``steps`` further updates, and conclude the fit after the last one."""
        end = min(self.steps, self.done + steps)
        while self.done < end and not self.diverged:
            index, epoch_end = self._rows()
            clock = Clock(self.done, self.steps, epoch_end)
            values = self.method.step(self.state, self.target.batch(index), clock, self.generator)
            if self.done == 0:
                self.began = float((values / self._rows_each(values)).mean())
            self.done += 1
            if self.done % CHECK_EVERY == 0 or self.done == self.steps:
                self._check(values, callback)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and numbers from which :meth:`restored` goes on exactly here."""
        tensors = {f"state/{name}": tensor for name, tensor in self.state.items()}
        tensors |= {f"good/{name}": tensor for name, tensor in self._good.items()}
        tensors["generator"] = self.generator.get_state()
        numbers = {name: getattr(self, name) for name in NUMBERS}
        return tensors, numbers

    @classmethod
    def restored(
        cls,
        method: InferenceMethod,
        state: State,
        target: Target,
        generator: torch.Generator,
        tensors: Mapping[str, Tensor],
        numbers: Mapping[str, Any],
    ) -> Fit:
        """The fit that a snapshot describes; ``state`` and ``generator`` are brought to where they were."""
        run = cls.__new__(cls)
        run._set(method, state, target, generator, numbers["steps"])
        for name in NUMBERS:
            setattr(run, name, numbers[name])
        device = target.all.y.device
        state.clear()
        state.update({n.removeprefix("state/"): t.to(device) for n, t in tensors.items() if n.startswith("state/")})
        run._good = {n.removeprefix("good/"): t.to(device) for n, t in tensors.items() if n.startswith("good/")}
        generator.set_state(tensors["generator"].cpu())
        return run

    def report(self) -> FitReport:
        """What was done so far."""
        return FitReport(self.done, self.potential, self.diverged)

    def _check(self, values: Tensor, callback: Callback | None) -> None:
        last = float((values / self._rows_each(values)).mean())
        if self.done == self.steps and math.isfinite(last):
            self.method.finish(self.state, self.target, self.generator)
        if not is_finite(self.state, last) or last > self.began + ABSURD:
            self._go_back()
            return
        self.potential, self._good = last, _copy(self.state)
        if callback is not None:
            callback(self.done, self.steps, {"potential": last, **self.method.metrics(self.state)})

    def _rows_each(self, values: Tensor) -> Tensor:
        return self.target.all.rows_of(values.shape[0])

    def _go_back(self) -> None:
        self.diverged = True
        for name in list(self.state):
            if name not in self._good:
                del self.state[name]
        for name, tensor in self._good.items():
            if name in self.state and self.state[name].shape == tensor.shape:
                self.state[name].detach().copy_(tensor)
            else:
                self.state[name] = tensor.clone()
        conclude(self.method, self.state, self.target, self.generator)

    def _rows(self) -> tuple[Tensor | None, bool]:
        """Row numbers of the next minibatch, and whether it completes a pass over the data."""
        size, rows = self.method.batch_size, self.target.rows
        if size is None or size >= rows:
            return None, True
        batches = math.ceil(rows / size)
        epoch, place = divmod(self.done, batches)
        if self._order is None or self._order[0] != epoch:
            order = torch.randperm(rows, generator=torch_generator(self.seed, "batches", epoch))
            self._order = epoch, order.to(self.target.all.y.device)
        # Equal parts: a rest of a single row would count for all N of them.
        return self._order[1].tensor_split(batches)[place], place == batches - 1


def fit(
    method: InferenceMethod,
    state: State,
    target: Target,
    generator: torch.Generator,
    *,
    steps: int,
    callback: Callback | None = None,
) -> FitReport:
    """Train ``state`` in place on ``target``; see :class:`Fit`.

    Parameters
    ----------
    callback : callable, optional
        Called as ``callback(done, steps, metrics)`` at each check.
    """
    run = Fit(method, state, target, generator, steps)
    run.advance(steps, callback)
    return run.report()


def conclude(method: InferenceMethod, state: State, target: Target, generator: torch.Generator) -> None:
    """Conclude a fit that went back, so that the parts of ``state`` agree; left out where that gives bad numbers."""
    trial = _copy(state)
    method.finish(trial, target, generator)
    if is_finite(trial, 0.0):
        state.clear()
        state.update(trial)


def _copy(state: State) -> State:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def is_finite(state: State, potential: float) -> bool:
    """Whether the potential and all tensors of a state are finite."""
    floats = [t for t in state.values() if t.is_floating_point()]
    return math.isfinite(potential) and all(bool(torch.isfinite(t).all()) for t in floats)
