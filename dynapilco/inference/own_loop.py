"""Updates one by one, in a loop that the user writes: the same care as in a fit."""

from __future__ import annotations

import math

import torch

from dynapilco.core.errors import UserError
from dynapilco.inference.fitting import ABSURD, CHECK_EVERY, conclude, is_finite
from dynapilco.inference.method import Clock, InferenceMethod, Metrics, State, name_of
from dynapilco.inference.resumable import DivergenceError
from dynapilco.inference.target import Target


class OwnLoop:
    """A fit whose batches come from outside.

    Parameters
    ----------
    method : InferenceMethod
    rows : int
        N of the whole data set.
    steps : int
        Updates announced.
    done : int
        Updates made.
    """

    def __init__(self, method: InferenceMethod, rows: int, steps: int, done: int = 0) -> None:
        for name, value in (("rows", rows), ("steps", steps)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name}={value!r}: expected a whole number of at least 1")
        self.method, self.rows, self.steps, self.done = method, rows, steps, done
        self.began = math.inf
        self.good: State | None = None

    @property
    def finished(self) -> bool:
        """All announced updates are made."""
        return self.done >= self.steps

    def numbers(self) -> tuple[int, int, int]:
        """(rows, steps, done)."""
        return self.rows, self.steps, self.done

    def step(self, state: State, target: Target, generator: torch.Generator) -> Metrics:
        """One update of ``state`` on the rows of ``target``; the last one concludes the fit.

        Raises
        ------
        UserError
            When all updates are made, or when the method needs all rows at once and gets fewer.
        DivergenceError
            Where numbers go bad: ``state`` is then the last good one.
        """
        if self.finished:
            raise UserError(f"step: the {self.steps} updates announced by begin() are done; call begin() to go on")
        if self.method.full_batch and not target.whole:
            raise UserError(
                f"inference {name_of(self.method)!r} needs all {self.rows} rows at once, got {target.all.rows}"
            )
        if self.done == 0:
            self.method.begin(state, target, generator)
        if self.good is None:
            self.good = {name: tensor.clone() for name, tensor in state.items()}
        values = self.method.step(state, target.batch(), Clock(self.done, self.steps), generator)
        potential = float((values / target.all.rows_of(values.shape[0])).mean())
        self.began = min(self.began, potential) if math.isinf(self.began) else self.began
        self.done += 1
        if self.finished and math.isfinite(potential):
            self.method.finish(state, target, generator)
        if not math.isfinite(potential) or self.finished or self.done % CHECK_EVERY == 0:
            self._check(state, potential, target, generator)
        return {"potential": potential, **self.method.metrics(state)}

    def _check(self, state: State, potential: float, target: Target, generator: torch.Generator) -> None:
        if is_finite(state, potential) and potential <= self.began + ABSURD:
            self.good = {name: tensor.clone() for name, tensor in state.items()}
            return
        assert self.good is not None
        state.clear()
        state.update({name: tensor.clone() for name, tensor in self.good.items()})
        conclude(self.method, state, target, generator)
        raise DivergenceError(
            f"inference {name_of(self.method)!r} diverged at step {self.done} of {self.steps}: the last good state is "
            "kept; try a smaller learning_rate or step_size, or standardised data"
        )
