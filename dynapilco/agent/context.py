"""What every part of the loop works with: settings, task, data, model, random numbers, and whom to tell."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dynapilco.agent.config import AgentConfig
from dynapilco.agent.state import LoopState
from dynapilco.core.seeding import derive, torch_generator
from dynapilco.dynamics import DynamicsDraw, DynamicsModel, Transitions
from dynapilco.dynamics.model import binary_refusal, is_binary
from dynapilco.inference import make_method
from dynapilco.rollout import StartSampler
from dynapilco.search import Imagination
from dynapilco.tasks import Task
from dynapilco.tracking.sink import Sink


class Context:
    """The inside of an agent between two phases of a trial.

    Parameters
    ----------
    config : AgentConfig
    task : Task
    device : torch.device
    state : LoopState, optional
        To go on from.

    Attributes
    ----------
    model : DynamicsModel
    method : Method
        Of inference.
    task : Task
        As given; where the inference method takes no probabilities, with an end that is learned by regression.
    regresses : str or None
        Why it is.
    sinks : sequence of Sink
    """

    def __init__(self, config: AgentConfig, task: Task, device: torch.device, state: LoopState | None = None) -> None:
        self.config, self.given, self.device = config, task, device
        self.sinks: Sequence[Sink] = ()
        self.method = make_method(config.inference, config.inference_kwargs)
        self.restore(state or LoopState(Transitions.empty(task.geometry.states, task.geometry.actions)))

    def restore(self, state: LoopState) -> None:
        """Go on from ``state``: its data and its model."""
        self.state = state
        self.task, self.regresses = self._task(state)
        self.model = DynamicsModel(self.task.geometry, self.config.dynamics, self.method, self.device, self.config.seed)
        if state.model:
            self.model.restore(state.model)

    def _task(self, state: LoopState) -> tuple[Task, str | None]:
        """The task with its end learned as it can be, and why that is by regression, where it is."""
        task = self.given
        reason = binary_refusal(task.geometry, self.config.dynamics, self.method)
        if task.geometry.binary and state.model and not is_binary(state.model):
            reason = "the model of this run began so, in an older version"
        return (task, None) if reason is None else (task.regressing_ends(), reason)

    # -- imagining ----------------------------------------------------------------------------------------------

    def imagination(self) -> Imagination:
        """What rollouts of a policy are imagined with."""
        rollout, trial = self.config.rollout, self.task.horizon
        draws = rollout.draws or self.method.natural_draws(rollout.total_particles, rollout.most_weight_sets)
        return Imagination(
            self.task,
            self.sampler(draws),
            max(1, round(rollout.total_particles / draws)),
            rollout.propagation == "moment_matching",
            steps=rollout.steps(trial),
            starts=self.starts(rollout.kind_of_start(trial)),
            discount=rollout.discount,
        )

    def sampler(self, draws: int) -> Callable[[torch.Generator], DynamicsDraw]:
        """A source of draws of so many functions of the newest model."""
        return lambda generator: self.model.draw(draws, generator)

    def starts(self, kind: str) -> StartSampler | None:
        """Where rollouts start; None where real episodes do."""
        if kind == "reset":
            return None
        visited = self.state.data.states.to(self.device)

        def sample(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
            rows = torch.randint(len(visited), shape, generator=generator, device=generator.device)
            if kind == "replay":
                return visited[rows]
            fresh = torch.rand(*shape, 1, generator=generator, device=generator.device) < 0.5
            return torch.where(fresh, self.task.sample_start(shape, generator), visited[rows])

        return sample

    # -- random numbers, and telling ----------------------------------------------------------------------------

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers of this trial for one purpose."""
        return torch_generator(self.config.seed, purpose, self.state.trials, device=self.device)

    def progress(self, phase: str) -> Callable[[int, int, dict[str, float]], None]:
        """A function that tells all sinks how far ``phase`` of this trial is."""
        trial = self.state.trials

        def report(done: int, total: int, metrics: dict[str, float]) -> None:
            for sink in self.sinks:
                sink.progress(trial, phase, done, total, metrics)

        return report

    def say(self, text: str, once: str = "") -> None:
        """Tell all sinks; what has a name ``once`` is told once in a run."""
        if self._first_time(once):
            for sink in self.sinks:
                sink.message(text)

    def warn(self, text: str, once: str = "") -> None:
        """The same; where there are no sinks, by a Python warning."""
        if self.sinks:
            self.say(text, once)
        elif self._first_time(once):
            warnings.warn(text, stacklevel=2)

    def _first_time(self, once: str) -> bool:
        if once and once in self.state.told:
            return False
        if once:
            self.state.told = [*self.state.told, once]
        return True


def env_seed(seed: int, purpose: str, index: int) -> int:
    """A seed for ``env.reset``: 31 bits, as some environments take no more."""
    return derive(seed, purpose, index) % 2**31
