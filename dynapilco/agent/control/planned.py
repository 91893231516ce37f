"""A planner as what acts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dynapilco.agent.context import Context
from dynapilco.agent.control.base import Control, Ready
from dynapilco.agent.control.beyond import LEARNED, learn_value, terminal_value
from dynapilco.agent.episode import Controller
from dynapilco.planning import Planner, Plans
from dynapilco.tracking.sink import TrialRow


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


class PlannedControl(Control):
    """Plans on the newest model; before there is one, acts at random.

    Parameters
    ----------
    context : Context
    name : str
        Of the planner.
    """

    def __init__(self, context: Context, name: str) -> None:
        super().__init__(context)
        self.name = name

    def prepare(self) -> Ready:
        """Only a terminal value, where one is asked for: the thinking is done while acting."""
        error, config = None, self.context.config.planning
        if config.terminal_value == LEARNED:
            error = learn_value(self.context, config.discount, None, None)
        planning = self._planning("trial")
        return Ready(planning, bad=lambda: planning.bad, thinks=True, value_error=error)

    def keep(self, ready: Ready, row: TrialRow) -> None:
        """The model is all there is."""
        if ready.bad():
            self.context.say(
                f"trial {row.trial}: {ready.bad()} plans had numbers that are not finite and were left out"
            )

    def acting(self, purpose: str) -> Controller:
        """The planner, or random actions before the first model."""
        if self.context.state.model:
            return self._planning(purpose)
        vectors = self.vectors()
        return lambda observation, _: vectors(torch.as_tensor(observation[None]))[0].cpu().numpy()

    def vectors(self) -> Callable[[Tensor], Tensor]:
        """A plan for each state."""
        if self.context.state.model:
            return self._planning("predict").each
        return self._random()

    def _random(self) -> Callable[[Tensor], Tensor]:
        """Uniform actions, new ones at every call."""
        task, generator = self.context.task, self.context.generator("untrained")
        low, high = (torch.as_tensor(bound, device=generator.device) for bound in (task.low, task.high))

        def act(states: Tensor) -> Tensor:
            unit = torch.rand(len(states), len(low), generator=generator, device=generator.device)
            return low + (high - low) * unit

        return act

    def _planning(self, purpose: str) -> PlanningController:
        context = self.context
        config, generator = context.config.planning, context.generator(f"planning/{purpose}")
        value = terminal_value(context)
        planner = Planner(self.name, context.task, context.sampler(config.draws), config, generator, value)
        return PlanningController(planner, context.task.horizon)
