"""Planners: distributions over plans that are refitted to the best ones, warm from step to step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dynapilco.core.errors import unknown_name
from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.planning.config import PLANNERS, PlanningConfig
from dynapilco.planning.evaluation import plan_returns, scores
from dynapilco.planning.noise import coloured
from dynapilco.rollout import TerminalValue
from dynapilco.tasks.task import Task


@dataclass(frozen=True)
class Plans:
    """What a planner remembers between two steps.

    Attributes
    ----------
    mean : Tensor
        Of plans, (H, M), in half widths of the action box (choices: logits).
    kept : Tensor
        Elites that go on, (k, H, M), in the same units.
    score : float
        Predicted score of the best plan, in the task's reward; NaN before the first step.
    bad : int
        Plans so far that had numbers which are not finite.
    """

    mean: Tensor
    kept: Tensor
    score: float = float("nan")
    bad: int = 0


class Planner:
    """Finds the next action by sampling plans.

    Parameters
    ----------
    name : str
        ``"cem"``, ``"icem"``, ``"mppi"`` or ``"random_shooting"``.
    task : Task
    sample_draw : callable
        ``sample_draw(generator)`` -> DynamicsDraw with ``config.draws`` functions.
    config : PlanningConfig
    generator : torch.Generator
        On the device of the particles.
    value : TerminalValue, optional
        What lies beyond the end of a plan that ends before its trial.

    Raises
    ------
    UserError
        For an unknown name.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        sample_draw: Callable[[torch.Generator], DynamicsDraw],
        config: PlanningConfig,
        generator: torch.Generator,
        value: TerminalValue | None = None,
    ) -> None:
        if name not in PLANNERS:
            raise unknown_name("planner", name, PLANNERS)
        self.name, self.task, self.sample_draw = name, task, sample_draw
        self.config, self.generator, self.value = config, generator, value
        device = generator.device
        low, high = (torch.as_tensor(bound, device=device) for bound in (task.low, task.high))
        self.centre, self.half = (low + high) / 2, (high - low) / 2

    def fresh(self) -> Plans:
        """Before the first step of an episode."""
        device, columns = self.generator.device, len(self.centre)
        mean = torch.zeros(self.config.horizon, columns, device=device)
        return Plans(mean, mean.new_zeros(0, *mean.shape))

    def act(self, state: Tensor, plans: Plans, left: int | None = None) -> tuple[Tensor, Plans]:
        """The action vector (M,) at a state (D,), and what to remember; ``left`` counts the steps of the trial."""
        horizon = self.config.horizon if left is None else max(1, min(self.config.horizon, left))
        draw = self.sample_draw(self.generator)
        value = self.value if left is None or left > horizon else None
        best, mean, elites, score, bad = self._search(state, plans, draw, horizon, value)
        going_on = _shifted(mean, self.config.horizon)
        kept = elites[: round(self.config.kept_share * len(elites))] if self.name == "icem" else elites[:0]
        kept = torch.stack([_shifted(plan, self.config.horizon) for plan in kept]) if len(kept) else plans.kept[:0]
        return self.actions(best[:1])[0], Plans(going_on, kept, score, plans.bad + bad)

    def actions(self, plans: Tensor) -> Tensor:
        """Actions of plans (..., M): inside the box, or one-hot choices."""
        if not self.task.codec.choices:
            return self.centre + self.half * plans.clamp(-1, 1)
        groups = plans.split(self.task.codec.choices, dim=-1)
        hot = [torch.zeros_like(g).scatter(-1, g.argmax(-1, keepdim=True), 1.0) for g in groups]
        return torch.cat(hot, -1)

    def _search(
        self, state: Tensor, plans: Plans, draw: DynamicsDraw, horizon: int, value: TerminalValue | None
    ) -> tuple[Tensor, Tensor, Tensor, float, int]:
        """Best plan, mean, elites (k, H, M) in order, the best score, and the number of bad plans."""
        config = self._adapted()
        mean, std = plans.mean[:horizon], torch.full_like(plans.mean[:horizon], config.initial_std)
        elites, top, best, bad = plans.kept[:, :horizon], -torch.inf, mean, 0
        for round_ in range(config.iterations):
            sampled = self._sample(mean, std, elites, config, round_)
            actions = self.actions(sampled)
            found = scores(plan_returns(self.task, draw, state, actions, config, self.generator, value), config)
            bad += int((~torch.isfinite(found)).sum())
            order = found.argsort(descending=True, stable=True)
            elites = sampled[order[: config.elites]]
            if bool(torch.isfinite(found).any()):
                mean, std = self._refit(mean, std, sampled, found, elites, config)
            if float(found[order[0]]) > top:
                top, best = float(found[order[0]]), sampled[order[0]]
        if self.name == "mppi":
            best = mean
        return best, mean, elites, top, bad

    def _adapted(self) -> PlanningConfig:
        """Random shooting spends all its plans in one round."""
        config = self.config
        if self.name != "random_shooting":
            return config
        return replace(config, population=config.population * config.iterations, iterations=1)

    def _sample(self, mean: Tensor, std: Tensor, kept: Tensor, config: PlanningConfig, round_: int) -> Tensor:
        """Plans of one round: the mean itself, kept elites, and noise around the mean, (K, H, M)."""
        count, exponent = config.population, 0.0
        if self.name == "icem":
            count = max(2 * config.elites, round(config.population / config.shrink**round_))
            exponent = config.noise_exponent
        if self.name == "random_shooting":
            size = (count, *mean.shape)
            unit = torch.rand(*size, generator=self.generator, device=mean.device)
            return 2 * unit - 1
        noise = coloured(count, mean.shape[0], mean.shape[1], exponent, self.generator)
        sampled = (mean + std * noise).clamp(-1, 1) if not self.task.codec.choices else mean + std * noise
        extra = kept[: round(config.kept_share * len(kept))] if self.name == "icem" and round_ else kept
        return (
            torch.cat([mean.unsqueeze(0), extra, sampled]) if self.name == "icem" else torch.cat([mean[None], sampled])
        )

    def _refit(
        self, mean: Tensor, std: Tensor, sampled: Tensor, found: Tensor, elites: Tensor, config: PlanningConfig
    ) -> tuple[Tensor, Tensor]:
        if self.name == "mppi":
            finite = torch.isfinite(found)
            spread = found[finite].std(correction=0).clamp_min(1e-12)
            weight = torch.where(finite, (found - found[finite].max()) / (config.temperature * spread), -torch.inf)
            return (weight.softmax(0)[:, None, None] * sampled).sum(0), std
        stay = config.momentum
        new_std = elites.std(0, correction=0) if len(elites) > 1 else std
        return stay * mean + (1 - stay) * elites.mean(0), stay * std + (1 - stay) * new_std


def _shifted(plan: Tensor, horizon: int) -> Tensor:
    """A plan (H, M) a step later, its last action repeated up to ``horizon`` steps."""
    rest = plan[1:]
    last = plan[-1:].expand(horizon - len(rest), -1)
    return torch.cat([rest, last])
