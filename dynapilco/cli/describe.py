"""What is understood of an environment, as rows to print before any training."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np

from dynapilco.agent.config import EVOLUTION, AgentConfig
from dynapilco.agent.control import choose
from dynapilco.agent.episode import run_episode
from dynapilco.agent.understanding import found_angles, looks_for_angles, restated, understood
from dynapilco.core.seeding import numpy_generator
from dynapilco.dynamics import Transitions
from dynapilco.rollout.config import RolloutConfig
from dynapilco.tasks import Task, make_env, task_of
from dynapilco.tasks.finding import Found
from dynapilco.tasks.flat import ENDED, REWARD

RANDOM_STEPS = 200
"""Steps of random actions that ``--controller auto`` is guessed from, and that angles are looked for in."""


def described(env_id: str) -> list[tuple[str, str]]:
    """(what, how it is understood) of an environment.

    Raises
    ------
    UserError
        For an unknown id, or an environment that is not supported.
    """
    env = make_env(env_id)
    try:
        plain = task_of(env)
        data = _random_steps(env, plain)
        found = found_angles(plain, data) if looks_for_angles(plain, AgentConfig()) else ()
        task = understood(plain, AgentConfig(), [angle.columns for angle in found] or None)
        if task.angles is not None:
            data = restated(data, AgentConfig(), plain, task)
        name, why = choose(task, data)
        controller = why.removeprefix("controller: ")
    finally:
        env.close()
    rollout = RolloutConfig()
    steps, start = rollout.steps(task.horizon), rollout.kind_of_start(task.horizon)
    if name == EVOLUTION:  # always whole trials from where real ones begin
        steps, start = task.horizon, "reset"
    seconds = "" if task.dt is None else f", {task.horizon * task.dt:g} s at dt = {task.dt:g} s"
    return [
        ("observation", _columns(plain)),
        ("angles", _angles(task)),
        *([("cosines and sines", _cosines(plain, task, found))] if task.angles else []),
        ("positions and velocities", _pairs(task)),
        ("action", _actions(task)),
        ("trial", f"{task.horizon} steps{seconds}"),
        ("reward", "learned from what is paid" if REWARD in task.learned else "known"),
        ("end of an episode", _end(task)),
        ("success", "known" if task.success is not None else "no rule; only returns are reported"),
        ("start", f"{len(task.starts)} resets" if task.starts is not None else "named by the environment (Gaussian)"),
        ("imagined rollouts", f"{steps} steps, starting by {start}"),
        ("controller", controller),
    ]


def _random_steps(env: gymnasium.Env, plain: Task) -> Transitions:
    """A few episodes of random actions: what ``--controller auto`` is guessed from, and angles are found in."""
    flat, generator = plain.flat(env), numpy_generator(0, "describe")
    data = Transitions.empty(plain.geometry.states, plain.geometry.actions)
    episodes = 0
    while len(data) < RANDOM_STEPS:
        actions = generator.uniform(plain.low, plain.high, (plain.horizon, len(plain.low)))
        seed = int(generator.integers(2**31))
        episode = run_episode(flat, lambda _, step, a=actions: a[step], seed, min(plain.horizon, RANDOM_STEPS))
        data, episodes = data.append(episode.transitions(episodes)), episodes + 1
    return data


def _cosines(plain: Task, task: Task, found: Sequence[Found]) -> str:
    """Which columns become angles, and how that is known."""
    assert task.angles is not None
    shown = [
        f"{task.names[place]} for {plain.names[circle.cos]}, {plain.names[circle.sin]}"
        for circle, place in zip(task.angles.circles, task.angles.places, strict=True)
    ]
    how = "as it is known"
    if found:
        how = f"found in {RANDOM_STEPS} random steps; a run looks at its own first data"
    return f"the model's state holds {'; '.join(shown)} ({how})"


def _columns(task: Task) -> str:
    gauges = [name for name in task.learned if name in task.gauges]
    size = task.size
    named = ", ".join(_with_unit(n, u) for n, u in zip(task.names[:size], task.units[:size], strict=True))
    added = f"; added to the state: {', '.join(gauges)} (change in the last step)" if gauges else ""
    return f"{size} numbers: {named}{added}"


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _angles(task: Task) -> str:
    names = [task.names[i] for i in task.geometry.angles]
    return f"{', '.join(names)}: networks see sine and cosine" if names else "none named"


def _pairs(task: Task) -> str:
    pairs = [f"{task.names[p]} <- {task.names[v]}" for p, v in task.geometry.pairs]
    if pairs and task.dt is None:
        return f"{', '.join(pairs)}, not used: dt is not known"
    return ", ".join(pairs) if pairs else "none named: every column's change is learned"


def _actions(task: Task) -> str:
    if task.codec.choices:
        return " and ".join(f"one of {n}" for n in task.codec.choices) + " (one-hot columns of the model)"
    shown = zip(task.action_names, task.action_units, task.low, task.high, strict=True)
    return ", ".join(f"{_with_unit(n, u)} in {_interval(low, high)}" for n, u, low, high in shown)


def _interval(low: np.floating, high: np.floating) -> str:
    return f"[{float(low):g}, {float(high):g}]"


def _end(task: Task) -> str:
    if ENDED in task.learned:
        return "learned from what ends, as a probability"
    return "known" if task.ends else "after the whole trial"
