"""What lies beyond the end of short rollouts and plans: a value that is learned before every search."""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.agent.config import AUTO, PATHWISE, AgentConfig
from dynapilco.agent.context import Context
from dynapilco.core.errors import UserError
from dynapilco.planning.config import PLANNERS
from dynapilco.policies import Policy
from dynapilco.rollout import Paths, Simulator, TerminalValue, fit_value

LEARNED = "learned"


def check_terminal_value(config: AgentConfig, trial: int) -> None:
    """Refuse a terminal value where no rollout ends before its trial of ``trial`` steps does.

    Raises
    ------
    UserError
    """
    lengths = {"rollout": config.rollout.steps(trial), "planning": config.planning.horizon}
    used = {"rollout": (AUTO, PATHWISE), "planning": tuple(PLANNERS)}
    for section, steps in lengths.items():
        wanted = getattr(config, section).terminal_value == LEARNED
        if wanted and config.controller in used[section] and steps >= trial:
            raise UserError(
                f"{section}.terminal_value='learned': imagined rollouts last the whole trial of {trial} steps, nothing "
                f"lies beyond: expected {section}.horizon below that, or terminal_value='none'"
            )


def terminal_value(context: Context) -> TerminalValue | None:
    """The newest value function of a run, None before there is one."""
    named = {name: tensor.to(context.device) for name, tensor in context.state.value.items()}
    return TerminalValue.of_tensors(context.task.geometry, named) if named else None


def learn_value(context: Context, discount: float, policy: Policy | None, params: Tensor | None) -> float:
    """Fit the value function to all real trials, and to rollouts of a policy (n,) where there is one; its error."""
    task, data = context.task, context.state.data
    discount = discount if discount < 1 else 1 - 1 / max(2, task.horizon)
    paths, generator = _real(context), context.generator("value")
    if policy is not None and params is not None:
        paths.append(_imagined(context, policy, params, generator))
    ends = [0.0] if task.ends else []
    rewards = [float(data.rewards.min()), float(data.rewards.max()), *ends]
    bounds = (min(rewards), max(rewards))
    value, error = fit_value(task.geometry, paths, discount, bounds, generator, terminal_value(context))
    context.state.value = {name: tensor.cpu() for name, tensor in value.tensors().items()}
    return error


def _real(context: Context) -> list[Paths]:
    task, data = context.task, context.state.data.to(context.device)
    paths = []
    for trial in data.trials.unique().tolist():
        rows = data.trials == trial
        states, after = data.states[rows], data.next_states[rows]
        goes_on = 1.0 - task.was_end(states, data.actions[rows], after).to(states.dtype)
        along = torch.cat([states, after[-1:]]).unsqueeze(1)
        paths.append(Paths(along, data.rewards[rows].unsqueeze(1), goes_on.unsqueeze(1)))
    return paths


@torch.no_grad()
def _imagined(context: Context, policy: Policy, params: Tensor, generator: torch.Generator) -> Paths:
    """Rollouts of the policy as a search imagines them; particles whose numbers are not finite are left out."""
    task, imagination = context.task, context.imagination()
    draw = imagination.sample_draw(generator)
    noise = imagination.noise(draw, 1, generator)
    rolled = Simulator(draw, policy, imagination.particles)(params.unsqueeze(0), noise, imagination.horizon)
    before, after = rolled.states[:-1], rolled.states[1:]
    rewards = task.reward(before, rolled.actions, after, torch)
    goes_on = 1 - task.end_probability(before, rolled.actions, after) if task.ends else torch.ones_like(rewards)
    states, rewards, goes_on = rolled.states.flatten(1, 3), rewards.flatten(1), goes_on.flatten(1)
    sound = torch.isfinite(states).all(-1).all(0) & torch.isfinite(rewards).all(0) & torch.isfinite(goes_on).all(0)
    return Paths(states[:, sound], rewards[:, sound], goes_on[:, sound])
