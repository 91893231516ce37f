"""The task as a run understands it: angles for cosines and sines, then a history; and what its first data showed."""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.agent.config import AUTO, AgentConfig
from dynapilco.dynamics import Transitions
from dynapilco.tasks import Task, with_angles, with_history
from dynapilco.tasks.angles import Pairs, angle_name, parse_pairs
from dynapilco.tasks.finding import Found, find_angles


def understood(plain: Task, config: AgentConfig, found: Pairs | None = None) -> Task:
    """The task whose states the model learns.

    Parameters
    ----------
    plain : Task
        As the environment tells it.
    config : AgentConfig
    found : sequence, optional
        Columns of angles that the first data showed; None where nobody looked.

    Raises
    ------
    UserError
        For columns of angles that do not fit the environment.
    """
    return with_history(with_angles(plain, _pairs(plain, config.angles, found)), config.history)


def _pairs(plain: Task, word: str, found: Pairs | None) -> Pairs:
    if word == "off":
        return ()
    if word in (AUTO, "declared"):
        return found if found is not None else plain.cos_sin or ()
    return parse_pairs(word)


def looks_for_angles(plain: Task, config: AgentConfig) -> bool:
    """Whether angles are looked for in the first data."""
    return config.angles == AUTO and plain.cos_sin is None


def found_angles(plain: Task, data: Transitions) -> tuple[Found, ...]:
    """Angles that transitions of the plain task show."""
    size, geometry = plain.size, plain.geometry
    named = frozenset([*geometry.angles, *(c for pair in geometry.pairs for c in pair)])
    starts = None if plain.starts is None else plain.starts[:, :size].numpy()
    before, after = (part[:, :size].cpu().numpy() for part in (data.states, data.next_states))
    return find_angles(before, after, plain.dt, starts, named)


def found_text(plain: Task, angle: Found, rows: int) -> str:
    """What was found, as a sentence."""
    cos, sin = plain.names[angle.cos], plain.names[angle.sin]
    text = f"{cos} and {sin} are the cosine and sine of an angle in all of {rows} transitions: the model's state holds "
    text += f"it as {angle_name(cos, sin)!r}"
    if angle.velocity is None:
        return f"{text}; no column is its velocity" + (" (dt is not known)" if plain.dt is None else "")
    return f"{text}, with the velocity {plain.names[angle.velocity]} (it misses {angle.misses:.0%} of the changes)"


def restated(data: Transitions, config: AgentConfig, plain: Task, task: Task) -> Transitions:
    """Transitions of the plain task (with the same history) as those of a task with angles."""
    before = with_history(plain, config.history)
    episodes = [_restated(data, trial, before, task) for trial in data.trials.unique().tolist()]
    whole = Transitions.empty(task.geometry.states, task.geometry.actions)
    for episode in episodes:
        whole = whole.append(episode)
    return whole


def _restated(data: Transitions, trial: int, before: Task, task: Task) -> Transitions:
    rows = data.trials == trial
    states, actions = data.states[rows], data.actions[rows]
    flat: Tensor = torch.cat([states, data.next_states[rows][-1:]])
    if before.stack is not None:
        flat = before.stack.last(flat, torch)
    assert task.angles is not None
    held = task.angles.episode(flat.numpy())
    if task.stack is not None:
        held = task.stack.episode(held, actions.numpy())
    new = torch.as_tensor(held, dtype=torch.float32)
    return Transitions.of_episode(new, actions, data.rewards[rows], trial)
