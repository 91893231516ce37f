"""What a policy is: a stateless function of flat parameters, evaluated for R candidates at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.core.registry import Registry
from dynapilco.dynamics.encoding import Geometry
from dynapilco.inference.stack import DenseStack

POLICIES: Registry[type] = Registry("policy")


class Policy(ABC):
    """A deterministic controller, squashed to the action box, or choosing from groups of actions.

    It sees features of the state without raw angles ([x, sin, cos], scaled), and returns a *raw* action; the bounded
    action is ``centre + half * tanh(raw)``. For one-hot choices (``geometry.choices``) the raw action holds logits and
    the action is 1 at the largest of each group.

    Parameters
    ----------
    geometry : Geometry
    low, high : Tensor
        Bounds of the action box, (M,), finite.
    scale : Tensor
        Multiplies the state columns before the policy sees them, (D,).
    """

    def __init__(self, geometry: Geometry, low: Tensor, high: Tensor, scale: Tensor) -> None:
        self.geometry, self.low, self.high = geometry, low, high
        self.state_spread = 1 / scale
        self.centre, self.half = (low + high) / 2, (high - low) / 2
        full = torch.cat([scale, torch.ones(2 * len(geometry.angles), device=scale.device)])
        # features (D + 2A) -> inputs: raw angles dropped, the rest scaled
        self.encoder = torch.diag(full) @ geometry.selection().to(scale.device)

    @property
    def inputs(self) -> int:
        """Number of columns that the policy sees."""
        return self.encoder.shape[1]

    @abstractmethod
    def init(self, candidates: int, generator: torch.Generator) -> Tensor:
        """Fresh parameters (R, n)."""

    @abstractmethod
    def raw(self, params: Tensor, features: Tensor) -> Tensor:
        """Raw actions (R, N, M) of params (R, n) on features (R, N, D + 2A)."""

    def dense(self, params: Tensor) -> DenseStack | None:
        """The policy as dense layers on features, G = R; None where it is not one."""
        return None

    def squash(self, raw: Tensor) -> Tensor:
        """Bounded actions in the units of the environment, or one-hot choices with the gradient of a softmax.

        With Gumbel noise on the logits the latter is the straight-through Gumbel-softmax estimator (Jang, Gu & Poole
        2017; Maddison, Mnih & Teh 2017).
        """
        if self.geometry.choices:
            return torch.cat([_choose(logits) for logits in raw.split(self.geometry.choices, dim=-1)], dim=-1)
        return self.centre + self.half * raw.tanh()

    def act(self, params: Tensor, states: Tensor) -> Tensor:
        """Actions (N, M) of one candidate, params (n,), at states (N, D)."""
        features = self.geometry.features(states)
        actions = self.squash(self.raw(params.unsqueeze(0), features.unsqueeze(0)))[0]
        return actions.clamp(self.low, self.high)  # centre + half may round to just past the bound


def _choose(logits: Tensor) -> Tensor:
    """1 at the largest of the logits (..., n), 0 elsewhere; backwards it is their softmax."""
    soft = logits.softmax(-1)
    hard = torch.zeros_like(soft).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


def make_policy(
    name: str, kwargs: dict[str, Any] | None, geometry: Geometry, low: Tensor, high: Tensor, scale: Tensor
) -> Policy:
    """Build a policy by name.

    Raises
    ------
    UserError
        For an unknown name or option, naming the valid ones.
    """
    cls = POLICIES[name]
    return cls(geometry, low, high, scale, check_options(name, kwargs))


def check_options(name: str, kwargs: dict[str, Any] | None) -> Any:
    """The policy's options dataclass, filled from ``kwargs``."""
    options: Any = POLICIES[name].Options
    assert is_dataclass(options)
    valid = [f.name for f in fields(options)]
    for key in kwargs or {}:
        if key not in valid:
            raise UserError(f"policy {name!r} has no option {key!r}: valid options are {', '.join(valid) or 'none'}")
    return options(**(kwargs or {}))  # pyright: ignore[reportCallIssue]
