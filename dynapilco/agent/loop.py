"""The loop over one LoopState: update_model, update_policy, act.

Trial after trial: fit the dynamics model to all data, improve the policy in it, act in the real environment, score the
model on the new episode before it is added, add it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from dynapilco.agent.config import PATHWISE, AgentConfig
from dynapilco.agent.episode import Controller, Episode, OnStep, run_episode
from dynapilco.agent.excitation import excitation
from dynapilco.agent.planning_controller import PlanningController
from dynapilco.agent.state import LoopState
from dynapilco.core.errors import UserError, unknown_name
from dynapilco.core.seeding import derive, numpy_generator, torch_generator
from dynapilco.dynamics import DynamicsDraw, DynamicsModel, Transitions
from dynapilco.dynamics.calibration import OneStepScore, horizon_coverage, one_step
from dynapilco.imagination import LearnedVectorEnv
from dynapilco.inference import FitReport, make_method
from dynapilco.planning import Planner
from dynapilco.policies import Policy, make_policy
from dynapilco.rollout import Simulator, StartSampler
from dynapilco.rollout.config import STARTS
from dynapilco.search import Imagination, PathwiseSearch, SearchReport, only_finite, predicted_returns
from dynapilco.tasks import Task
from dynapilco.tracking.sink import Fan, Sink, Trial, TrialRow


@dataclass(frozen=True)
class Prediction:
    """What the model expects of a trial: particle states (K, T+1, D)."""

    particles: Tensor


class Loop:
    """Runs trials on one environment.

    Parameters
    ----------
    config : AgentConfig
    env : gymnasium.Env
    task : Task
    device : torch.device
    state : LoopState, optional
        To go on from.
    """

    def __init__(
        self,
        config: AgentConfig,
        env: gymnasium.Env,
        task: Task,
        device: torch.device,
        state: LoopState | None = None,
    ) -> None:
        self.config, self.task, self.device = config, task, device
        self.env = task.flat(env)
        self.sinks: Sequence[Sink] = ()
        self._before: LoopState | None = None
        self.method = make_method(config.inference, config.inference_kwargs)
        self._set_state(state or LoopState(Transitions.empty(task.geometry.states, task.geometry.actions)))

    def _set_state(self, state: LoopState) -> None:
        self.state = state
        self.model = DynamicsModel(self.task.geometry, self.config.dynamics, self.method, self.device, self.config.seed)
        if state.model:
            self.model.restore(state.model)
        self.policy = self._make_policy()

    # -- the three verbs ----------------------------------------------------------------------------------------

    def update_model(self) -> FitReport:
        """Fit the dynamics model to all data."""
        trial = self.state.trials
        report = self.model.fit(self.state.data, self._generator("model"), self._progress(trial, "model"))
        self.state.model = self.model.snapshot()
        if report.diverged:
            self._say(
                f"trial {trial}: the model fit diverged by step {report.steps} and went back to "
                "its last good state; a smaller learning rate or a higher noise_floor may help"
            )
        return report

    def update_policy(self) -> SearchReport:
        """Improve the policy inside the model."""
        trial = self.state.trials
        if self.state.policy_scale is None:
            self.state.policy_scale = _scale(self.state.data.states)
            self.policy = self._make_policy()
        search = PathwiseSearch(
            self.policy,
            self._imagination(),
            self.config.search,
            self._generator("search"),
            self._progress(trial, "policy"),
        )
        report = search.run(self._warm_starts())
        if report.bad_rollouts:
            self._say(
                f"trial {trial}: {report.bad_rollouts} candidate gradients were not finite and were skipped; "
                f"{report.restarts} candidates were started afresh"
            )
        return report

    def act(self, controller: Controller, *, record: bool = False, on_step: OnStep | None = None) -> Episode:
        """Run the next real episode."""
        seed = env_seed(self.config.seed, "env", self.state.trials)
        return run_episode(self.env, controller, seed, self.task.horizon, record=record, on_step=on_step)

    # -- a trial ------------------------------------------------------------------------------------------------

    def run_trial(self, *, record: bool = False, on_step: OnStep | None = None) -> Trial | None:
        """One trial, from model fit to the new row of the history; None when ``on_step`` stopped it half-way.

        A trial that is stopped, or ends in an error, leaves no trace: the state is what it was before.
        """
        before = self._before = replace(self.state)
        trial = None
        explores = self.state.trials < self.config.exploration.trials
        try:
            trial = self._explore(record, on_step) if explores else self._improve(record, on_step)
        finally:
            self._before = None
            if trial is None:
                self._set_state(before)
        return trial

    @property
    def settled_state(self) -> LoopState:
        """The state between two trials: during one, as it was before it began."""
        return self.state if self._before is None else self._before

    def _plan(self, record: bool, on_step: OnStep | None) -> Trial | None:
        """A trial of a planner: its seconds of acting hold the planning."""
        clock = time.perf_counter()
        self.update_model()
        seconds_model = time.perf_counter() - clock
        planning = self.planning_controller("trial")
        clock = time.perf_counter()
        episode = self.act(planning, record=record, on_step=on_step)
        seconds_policy = time.perf_counter() - clock
        if not episode.complete:
            return None
        if planning.bad:
            self._say(
                f"trial {self.state.trials}: {planning.bad} plans had numbers that are not finite and were left out"
            )
        new = self._transitions(episode)
        row = self._row(
            episode,
            score=self._score(new),
            nan_rollouts=planning.bad,
            seconds=(seconds_model, seconds_policy, 0.0),
        )
        self._remember(new, row, None)
        return Trial(row, None, episode.frames)

    def _improve(self, record: bool, on_step: OnStep | None) -> Trial | None:
        if self.plans:
            return self._plan(record, on_step)
        clock = time.perf_counter()
        self.update_model()
        seconds_model = time.perf_counter() - clock
        search = self.update_policy()
        prediction = self.predict_trial(search.params)
        seconds_policy = time.perf_counter() - clock - seconds_model
        clock = time.perf_counter()
        episode = self.act(self.controller(search.params), record=record, on_step=on_step)
        seconds_env = time.perf_counter() - clock
        if not episode.complete:
            return None
        new = self._transitions(episode)
        score = self._score(new)
        observed = torch.as_tensor(episode.observations[1:])
        row = self._row(
            episode,
            predicted_return=search.predicted_return,
            score=score,
            coverage_95_horizon=self._horizon_coverage(prediction, observed),
            nan_rollouts=search.bad_rollouts,
            seconds=(seconds_model, seconds_policy, seconds_env),
        )
        self._remember(new, row, search.params)
        return Trial(row, self._fan(prediction, episode), episode.frames)

    def _explore(self, record: bool, on_step: OnStep | None) -> Trial | None:
        task, trial = self.task, self.state.trials
        generator = numpy_generator(self.config.seed, "exploration", trial)
        actions = excitation(self.config.exploration.kind, task.horizon, task.low, task.high, task.dt, generator)
        clock = time.perf_counter()
        episode = self.act(lambda _, step: actions[step], record=record, on_step=on_step)
        if not episode.complete:
            return None
        row = self._row(episode, seconds=(None, None, time.perf_counter() - clock))
        self._remember(self._transitions(episode), row, None)
        return Trial(row, None, episode.frames)

    def _remember(self, new: Transitions, row: TrialRow, params: Tensor | None) -> None:
        state = self.state
        if params is not None:
            row_params = params.detach().cpu().unsqueeze(0)
            state.policies = torch.cat([state.policies.reshape(-1, row_params.shape[1]), row_params])
            state.policy_trials = [*state.policy_trials, row.trial]
        state.data = state.data.append(new)
        state.env_steps = row.env_steps
        state.history = [*state.history, row]
        if params is not None:
            state.delivered = self._choose_delivered()

    def _choose_delivered(self) -> int:
        """Row of the best policy so far: the mean of its real return and of what the newest model predicts for it."""
        real = torch.tensor([self.state.history[t].ret for t in self.state.policy_trials])
        params = self.state.policies.to(self.device)
        imagination = self._imagination()
        predicted = predicted_returns(self.policy, params, imagination, self._generator("deliver"), 4)
        whole = predicted * (self.task.horizon / imagination.horizon)  # a rollout may be shorter than a trial
        return int((real + only_finite(whole.cpu())).argmax())

    # -- parts --------------------------------------------------------------------------------------------------

    def controller(self, params: Tensor) -> Controller:
        """The policy with parameters (n,) as a function of a numpy observation."""

        @torch.no_grad()
        def control(observation: np.ndarray, _: int) -> np.ndarray:
            x = torch.as_tensor(observation, dtype=torch.float32, device=self.device).unsqueeze(0)
            return self.policy.act(params, x)[0].cpu().numpy()

        return control

    @property
    def plans(self) -> bool:
        """Whether a planner acts, not a policy."""
        return self.config.controller != PATHWISE

    def planning_controller(self, purpose: str) -> PlanningController:
        """The planner on the newest model."""
        config = self.config.planning

        def sample(generator: torch.Generator) -> DynamicsDraw:
            return self.model.draw(config.draws, generator)

        generator = self._generator(f"planning/{purpose}")
        planner = Planner(self.config.controller, self.task, sample, config, generator)
        return PlanningController(planner, self.task.horizon)

    def delivered_controller(self, purpose: str) -> Controller:
        """What acts from now on: the delivered policy, or the planner once there is a model."""
        if self.plans and self.state.model:
            return self.planning_controller(purpose)
        return self.controller(self.delivered_params())

    def delivered_vectors(self) -> Callable[[Tensor], Tensor]:
        """The same as a function of states (B, D) that gives action vectors (B, M)."""
        if self.plans and self.state.model:
            return self.planning_controller("predict").each
        return partial(self.policy.act, self.delivered_params())

    def imagine(
        self, num_envs: int, horizon: int | None, starts: str, follow: str, draws: int, observation_space: Any
    ) -> LearnedVectorEnv:
        """The newest model as a vector environment; see ``DynaPILCO.imagine``."""
        if not self.state.model:
            raise UserError("imagine() before the first policy trial: there is no model yet; call learn() first")
        if starts not in STARTS:
            raise unknown_name("starts", starts, STARTS)
        if starts == "auto":
            starts = "reset" if horizon is None else "replay"
        generator = self._generator("imagine")
        count = draws or self.method.natural_draws(max(1, num_envs), self.config.rollout.most_weight_sets)
        draw = self.model.draw(count, generator)
        sampler = self._starts(starts)
        return LearnedVectorEnv(
            self.task, draw, observation_space, num_envs, horizon, sampler, follow, self.config.seed
        )

    @torch.no_grad()
    def predict_trial(self, params: Tensor) -> Prediction:
        """Imagine the coming trial under the policy (n,), as an observer would see it."""
        imagination, generator = replace(self._imagination(), starts=None), self._generator("prediction")
        draw = imagination.sample_draw(generator)
        noise = imagination.noise(draw, 1, generator)
        states = Simulator(draw, self.policy, imagination.particles)(params.unsqueeze(0), noise, imagination.horizon)
        seen = states.states
        if draw.sensor_std is not None:
            seen = seen + draw.sensor_std * torch.randn(seen.shape, generator=generator, device=self.device)
        return Prediction(seen.flatten(1, 3).transpose(0, 1))

    def delivered_params(self) -> Tensor:
        """Parameters (n,) of the policy that ``predict`` uses; a fresh one before the first policy trial."""
        if self.state.delivered is None:
            return self.policy.init(1, self._generator("untrained"))[0]
        return self.state.policies[self.state.delivered].to(self.device)

    def _make_policy(self) -> Policy:
        geometry = self.task.geometry
        scale = self.state.policy_scale
        low, high = (torch.as_tensor(bound, device=self.device) for bound in (self.task.low, self.task.high))
        scale = torch.ones(geometry.states) if scale is None else scale
        return make_policy(self.config.policy, self.config.policy_kwargs, geometry, low, high, scale.to(self.device))

    def _warm_starts(self) -> Tensor | None:
        """The delivered policy and the newest one, (1 or 2, n)."""
        state = self.state
        if state.delivered is None:
            return None
        rows = sorted({state.delivered, len(state.policies) - 1})
        return state.policies[rows].to(self.device)

    def _imagination(self) -> Imagination:
        rollout = self.config.rollout
        draws = rollout.draws or self.method.natural_draws(rollout.total_particles, rollout.most_weight_sets)
        particles = max(1, round(rollout.total_particles / draws))

        def sample(generator: torch.Generator) -> DynamicsDraw:
            return self.model.draw(draws, generator)

        trial = self.task.horizon
        return Imagination(
            self.task,
            sample,
            particles,
            rollout.propagation == "moment_matching",
            steps=rollout.steps(trial),
            starts=self._starts(rollout.kind_of_start(trial)),
        )

    def _starts(self, kind: str) -> StartSampler | None:
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

    def _transitions(self, episode: Episode) -> Transitions:
        return Transitions.of_episode(
            torch.as_tensor(episode.observations, dtype=torch.float32),
            torch.as_tensor(episode.actions, dtype=torch.float32),
            torch.as_tensor(episode.rewards, dtype=torch.float32),
            self.state.trials,
        )

    @torch.no_grad()
    def _score(self, new: Transitions) -> OneStepScore:
        generator = self._generator("calibration")
        draw = self.model.draw(max(20, self.method.natural_draws(50)), generator)
        assert self.model.targets is not None
        return one_step(draw, new.to(self.device), self.model.targets.std, generator)

    def _horizon_coverage(self, prediction: Prediction, observed: Tensor) -> float:
        lasting = self.task.geometry.lasting
        predicted = prediction.particles[:, 1 : len(observed) + 1, lasting].cpu()
        return horizon_coverage(predicted, observed[: predicted.shape[1], lasting])

    def _row(
        self,
        episode: Episode,
        seconds: tuple[float | None, float | None, float],
        predicted_return: float | None = None,
        score: OneStepScore | None = None,
        coverage_95_horizon: float | None = None,
        nan_rollouts: int | None = None,
    ) -> TrialRow:
        steps = self.state.env_steps + len(episode.actions)
        return TrialRow(
            trial=self.state.trials,
            env_steps=steps,
            env_seconds=None if self.task.dt is None else steps * self.task.dt,
            ret=float(episode.rewards.sum(dtype=np.float64)),
            predicted_return=predicted_return,
            success=self.success(episode),
            model_nll=None if score is None else score.nll,
            coverage_95_one_step=None if score is None else score.coverage,
            coverage_95_horizon=coverage_95_horizon,
            nan_rollouts=nan_rollouts,
            seconds_model=seconds[0],
            seconds_policy=seconds[1],
            seconds_env=seconds[2],
        )

    def success(self, episode: Episode) -> bool | None:
        """The task's success rule on the true states; None where it has none."""
        return None if self.task.success is None else bool(self.task.success(episode.states, np))

    def _fan(self, prediction: Prediction, episode: Episode) -> Fan:
        task = self.task
        seconds = np.arange(len(episode.observations)) * (task.dt or 1.0)
        return Fan(
            seconds,
            prediction.particles[:, : len(seconds)].cpu().numpy(),
            episode.observations,
            task.names,
            task.units,
            episode.actions,
            task.action_names,
            task.action_units,
        )

    def _generator(self, purpose: str) -> torch.Generator:
        return torch_generator(self.config.seed, purpose, self.state.trials, device=self.device)

    def _progress(self, trial: int, phase: str) -> Callable[[int, int, dict[str, float]], None]:
        def report(done: int, total: int, metrics: dict[str, float]) -> None:
            for sink in self.sinks:
                sink.progress(trial, phase, done, total, metrics)

        return report

    def _say(self, text: str) -> None:
        for sink in self.sinks:
            sink.message(text)


def env_seed(seed: int, purpose: str, index: int) -> int:
    """A seed for ``env.reset``: 31 bits, as some environments take no more."""
    return derive(seed, purpose, index) % 2**31


def _scale(states: Tensor) -> Tensor:
    """One over the spread of each column of the exploration data, (D,)."""
    std = states.std(0)
    return torch.where(std > 1e-6, 1 / std.clamp_min(1e-6), torch.ones_like(std))
