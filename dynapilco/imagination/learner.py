"""An agent of stable-baselines3 as named tensors, trained in imagined environments.

Everything that an agent has learned (networks, target networks, optimisers, entropy coefficient, counters) is kept as
tensors, so that nothing is pickled and an agent that is rebuilt from them goes on exactly where it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from dynapilco.core.errors import CheckpointError, UserError, unknown_name
from dynapilco.imagination.config import ALGORITHMS, OFF_POLICY
from dynapilco.imagination.spaces import StillEnv
from dynapilco.imagination.values import check_value
from dynapilco.tasks import Task

State = dict[str, Tensor]
Report = Callable[[int, int, dict[str, float]], None]

OURS = {
    "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size", "monitor_wrapper",
    "supported_action_spaces", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage",
    "rollout_buffer_class", "rollout_buffer_kwargs", "learning_starts", "train_freq", "gradient_steps",
    "action_noise", "use_sde", "sde_sample_freq", "use_sde_at_warmup",
}  # fmt: skip
"""Arguments of the algorithms that the section ``imagination`` decides, or that have no meaning here."""
SMALL = {"learning_rate": 1e-3, "batch_size": 128, "policy_kwargs": {"net_arch": [64, 64]}}
"""Own defaults of off-policy algorithms: tasks with few columns, and thousands of updates in every trial."""
COUNTERS = ("_n_updates", "_n_calls")
RATES = ("exploration_rate",)
CHECKS = 20
"""How often in a training the agent is looked at, told of, and kept as the last good one."""
MOST_BREAKDOWNS = 3
REHEARSAL_ENVS = 2


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """The class of stable-baselines3 that a word stands for."""
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    return getattr(import_module("stable_baselines3"), name.upper())


def algorithm_options(name: str) -> dict[str, Any]:
    """Arguments of an algorithm that may be given, with their defaults."""
    parameters = inspect.signature(algorithm_class(name).__init__).parameters
    refused = OURS | {"self", "policy", "_init_setup_model"} | ({"n_steps"} if name in OFF_POLICY else set())
    return {key: value.default for key, value in parameters.items() if key not in refused}


def check_options(name: str, given: dict[str, Any]) -> None:
    """Refuse arguments that an algorithm does not take, and values that they cannot have.

    Raises
    ------
    UserError
        Naming the valid ones, or the value and what is expected.
    """
    valid = algorithm_options(name)
    for key in given:
        if key in OURS:
            raise UserError(f"{name} option {key!r} is not yours to give: the section imagination decides it")
        if key not in valid:
            raise unknown_name(f"{name} option", key, valid)
        check_value(name, key, given[key])


def check_actions(name: str, space: spaces.Space) -> None:
    """Refuse an action space that an algorithm does not take.

    Raises
    ------
    UserError
    """
    kinds = {"dqn": (spaces.Discrete,), **dict.fromkeys(("sac", "td3", "ddpg"), (spaces.Box,))}
    if isinstance(space, kinds.get(name, (spaces.Space,))):
        return
    wanted = " or ".join(kind.__name__ for kind in kinds[name])
    others = [other for other in ALGORITHMS if isinstance(space, kinds.get(other, (spaces.Space,)))]
    raise UserError(
        f"controller={name!r} takes {wanted} actions, and those of this environment are {space}: expected one of "
        f"{', '.join(others)}"
    )


def build_agent(name: str, env: VecEnv, device: torch.device, options: dict[str, Any]) -> BaseAlgorithm:
    """A fresh agent; its initial weights come from torch's global generator.

    Raises
    ------
    UserError
        For options that stable-baselines3 refuses.
    """
    given = {**(SMALL if name in OFF_POLICY else {}), **options}
    given = {key: dict(value) if isinstance(value, dict) else value for key, value in given.items()}  # SB3 adds to it
    try:
        agent = algorithm_class(name)("MlpPolicy", env, device=device, verbose=0, **given)  # pyright: ignore
    except Exception as error:  # whatever stable-baselines3 or torch raise about a value
        raise _refused(name, options, error) from error
    agent.set_logger(Logger(folder=None, output_formats=[]))
    return agent


def rehearse(name: str, task: Task, device: torch.device, options: dict[str, Any]) -> None:
    """Let a fresh agent take a few steps and updates where nothing happens, so that bad options are found before a run.

    Parameters
    ----------
    task : Task
        See :func:`~dynapilco.imagination.spaces.learning_task`.
    device : torch.device
    options : dict
        As they were given.

    Raises
    ------
    UserError
        For whatever the algorithm raises.
    """
    short: dict[str, Any] = {"n_steps": 2 * REHEARSAL_ENVS} if name not in OFF_POLICY else {
        "learning_starts": 0, "train_freq": 1, "gradient_steps": 1,
    }  # fmt: skip
    small = {**options, **short}
    for key, most in (("n_epochs", 1), ("buffer_size", 100)):
        if key in algorithm_options(name):
            small[key] = most
    agent = build_agent(name, StillEnv(task, REHEARSAL_ENVS), device, small)
    try:
        agent.learn(2 * REHEARSAL_ENVS * REHEARSAL_ENVS, log_interval=None)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # whatever stable-baselines3 or torch raise about a value
        raise _refused(name, options, error) from error


def _refused(name: str, options: dict[str, Any], error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    told = {key: value for key, value in options.items() if key not in OURS}
    return UserError(f"stable-baselines3 refuses these options of {name}, {told!r}: {type(error).__name__}: {reason}")


# -- as tensors -------------------------------------------------------------------------------------------------------


def to_state(agent: BaseAlgorithm) -> State:
    """Everything that an agent has learned, as named tensors (copies)."""
    named: State = {}
    dicts, variables = agent._get_torch_save_params()
    for name in dicts:
        held = attrgetter(name)(agent).state_dict()
        flat = _optimiser_tensors(held) if "param_groups" in held else held
        named |= {f"{name}/{key}": value.detach().clone() for key, value in flat.items()}
    named |= {name: attrgetter(name)(agent).detach().clone() for name in variables}
    counts = {name: torch.tensor(getattr(agent, name)) for name in COUNTERS if hasattr(agent, name)}
    rates = {name: torch.tensor(getattr(agent, name), dtype=torch.float64) for name in RATES if hasattr(agent, name)}
    return {**named, **counts, **rates}


def from_state(agent: BaseAlgorithm, named: State) -> None:
    """Put them back into an agent that was built alike.

    Raises
    ------
    CheckpointError
        For tensors of another agent.
    """
    try:
        _restore(agent, named)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        kind = type(agent).__name__
        raise CheckpointError(f"the saved agent does not fit {kind} and its options: {reason}") from error


def _restore(agent: BaseAlgorithm, named: State) -> None:
    dicts, variables = agent._get_torch_save_params()
    for name in dicts:
        owner, part = attrgetter(name)(agent), _under(named, f"{name}/")
        held = owner.state_dict()
        owner.load_state_dict({**held, "state": _optimiser_state(part)} if "param_groups" in held else part)
    for name in variables:
        attrgetter(name)(agent).data.copy_(named[name])
    for name in (*COUNTERS, *RATES):
        if name in named:
            setattr(agent, name, named[name].item())


def _optimiser_tensors(held: dict[str, Any]) -> State:
    """State of an optimiser, flat; numbers that are no tensors are marked."""
    flat: State = {}
    for index, slots in held["state"].items():
        for slot, value in slots.items():
            tensor = isinstance(value, Tensor)
            flat[f"{index}/{slot}" if tensor else f"{index}/{slot}=number"] = value if tensor else torch.tensor(value)
    return flat


def _optimiser_state(flat: State) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in flat.items():
        index, slot = key.split("/", 1)
        number = slot.endswith("=number")
        state.setdefault(int(index), {})[slot.removesuffix("=number")] = value.item() if number else value.clone()
    return state


def _under(named: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


# -- training ---------------------------------------------------------------------------------------------------------


def train(agent: BaseAlgorithm, timesteps: int, report: Report) -> int:
    """Train an agent in its environment; one whose numbers go bad returns to the last good ones and goes on.

    Parameters
    ----------
    agent : BaseAlgorithm
    timesteps : int
        Imagined transitions.
    report : callable
        ``report(done, total, metrics)``, now and then.

    Returns
    -------
    int
        How often numbers went bad; at the third time the training ends with the last good ones.
    """
    good, breakdowns, done = to_state(agent), 0, 0
    while done < timesteps and breakdowns < MOST_BREAKDOWNS:
        watch = _Watch(timesteps, done, report, good)
        try:
            agent.learn(timesteps - done, callback=watch, log_interval=None)  # pyright: ignore[reportArgumentType]
        except ValueError:  # torch's distributions refuse parameters that are not finite
            if is_finite(agent):
                raise
            watch.broken = True
        done, good = watch.reached, watch.good
        if watch.broken or not is_finite(agent):
            from_state(agent, good)
            agent.logger.name_to_value.clear()
            breakdowns += 1
    return breakdowns


def is_finite(agent: BaseAlgorithm) -> bool:
    """Whether all that an agent has learned, and the losses of its last updates, are finite numbers."""
    numbers = all(bool(torch.isfinite(value).all()) for value in to_state(agent).values() if value.is_floating_point())
    losses = [value for key, value in agent.logger.name_to_value.items() if "loss" in key]
    return numbers and bool(np.isfinite(np.asarray(losses, dtype=float)).all())


class _Watch(BaseCallback):
    """Reports, keeps the last good state, and stops a training that has gone bad."""

    def __init__(self, total: int, done: int, report: Report, good: State) -> None:
        super().__init__()
        self.total, self.before, self.reached, self.report, self.good = total, done, done, report, good
        self.broken = False
        self._next = done

    def _on_step(self) -> bool:
        self.reached = self.before + self.num_timesteps
        if self.reached < self._next:
            return True
        self._next = self.reached + max(1, self.total // CHECKS)
        self.broken = not is_finite(self.model)
        if self.broken:
            return False
        self.good = to_state(self.model)
        losses = self.logger.name_to_value
        self.report(
            min(self.reached, self.total),
            self.total,
            {key.rpartition("/")[2]: float(value) for key, value in losses.items() if "loss" in key},
        )
        return True
