"""A planner as a controller of episodes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dynapilco.planning import Planner, Plans


class PlanningController:
    """Plans at every step, warm from the last one; an episode's first step begins anew.

    Parameters
    ----------
    planner : Planner
    horizon : int
        Steps of a trial: no plan looks beyond its end.
    """

    def __init__(self, planner: Planner, horizon: int) -> None:
        self.planner, self.horizon = planner, horizon
        self.plans: Plans = planner.fresh()

    def __call__(self, observation: np.ndarray, step: int) -> np.ndarray:
        """The action vector (M,) at a state (D,)."""
        if step == 0:
            self.plans = self.planner.fresh()
        state = torch.as_tensor(observation, dtype=torch.float32, device=self.planner.generator.device)
        action, self.plans = self.planner.act(state, self.plans, self.horizon - step)
        return action.cpu().numpy()

    @property
    def bad(self) -> int:
        """Plans of this episode that had numbers which are not finite."""
        return self.plans.bad

    def each(self, states: Tensor) -> Tensor:
        """Actions (B, M) at states (B, D) that have nothing to do with each other: every plan begins anew."""
        return torch.stack([self.planner.act(state, self.planner.fresh())[0] for state in states])
