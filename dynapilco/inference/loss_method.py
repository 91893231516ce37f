"""Methods that minimise a loss: what they share, and what lets a user's own optimiser train them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.inference.adam import adam_begin, adam_step, cosine_rate
from dynapilco.inference.method import Clock, InferenceMethod, State, require_positive
from dynapilco.inference.target import Batch, Target


@dataclass(frozen=True)
class LossMethod(InferenceMethod):
    """A method whose fit is the descent of a differentiable loss over some tensors of its state.

    Attributes
    ----------
    learning_rate : float
        Peak rate of Adam, with warm-up and cosine decay.
    """

    learning_rate: float = 0.01

    has_loss: ClassVar[bool] = True
    trainable: ClassVar[tuple[str, ...]] = ("params", "points")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "learning_rate")

    @property
    def trainable_names(self) -> tuple[str, ...]:
        """Names of the tensors of the state that the loss is descended in."""
        return self.trainable

    def loss_needs(self) -> list[str]:
        """Options that need the whole data set, and so cannot serve a user's own optimiser."""
        return []

    @abstractmethod
    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """U as this method estimates it, (S,), nats over all N rows; differentiable in the trainable tensors."""

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Zero Adam's moments."""
        adam_begin(state, self.trainable_names)

    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """One update of all members by Adam on loss / N."""
        values, gradients = self.gradients(state, batch, generator)
        rate = cosine_rate(self.learning_rate, clock.done, clock.steps)
        adam_step(state, gradients, rate, {"points": batch.model.point_rates(state["points"])})
        return values

    def gradients(self, state: State, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (S,) and the gradients of loss / N by name; a member's gradient is of its own loss alone."""
        names = [name for name in self.trainable_names if state[name].numel()]
        leaves = {name: state[name].detach().requires_grad_(True) for name in names}
        with torch.enable_grad():
            values = self.loss({**state, **leaves}, batch, generator)
            scale = batch.rows_of(values.shape[0]).reciprocal()
            grads = torch.autograd.grad(values, list(leaves.values()), scale, allow_unused=True)
        named = zip(leaves, grads, strict=True)
        return values.detach(), {name: grad for name, grad in named if grad is not None}
