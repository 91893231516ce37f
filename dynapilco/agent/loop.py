"""The loop over one LoopState: fit the model, make ready, act, remember.

Trial after trial: fit the dynamics model to all data, improve what acts on it, act in the real environment, score the
model on the new episode before it is added, add it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from dynapilco.agent.config import AUTO, AgentConfig
from dynapilco.agent.context import Context, env_seed
from dynapilco.agent.control import Prediction, Ready, choose, make_control, pays_for_life
from dynapilco.agent.control.beyond import check_terminal_value
from dynapilco.agent.control.unused import unused_text
from dynapilco.agent.episode import Controller, Episode, OnStep, run_episode
from dynapilco.agent.excitation import excitation
from dynapilco.agent.state import LoopState
from dynapilco.agent.understanding import found_angles, found_text, looks_for_angles, restated, understood
from dynapilco.agent.watch import Judgement, Watch
from dynapilco.core.errors import UserError, unknown_name
from dynapilco.core.seeding import numpy_generator
from dynapilco.dynamics import DynamicsModel, Transitions
from dynapilco.dynamics.calibration import HorizonScore, OneStepScore, horizon, one_step, spread
from dynapilco.imagination import LearnedVectorEnv
from dynapilco.inference import FitReport
from dynapilco.rollout.config import STARTS
from dynapilco.tasks import Task
from dynapilco.tracking.sink import Fan, Pit, Rollout, Sink, Spread, Trial, TrialRow

Result = TypeVar("Result")


class Loop:
    """Runs trials on one environment.

    Parameters
    ----------
    config : AgentConfig
    env : gymnasium.Env
    plain : Task
        As the environment tells it; ``task`` is that with a history and with angles, as the configuration and the first
        data say.
    device : torch.device
    state : LoopState, optional
        To go on from.
    """

    def __init__(
        self,
        config: AgentConfig,
        env: gymnasium.Env,
        plain: Task,
        device: torch.device,
        state: LoopState | None = None,
    ) -> None:
        check_terminal_value(config, plain.horizon)
        self.config, self.plain = config, plain
        task = understood(plain, config, None if state is None else state.angles)
        self.env = task.flat(env, self.hear)
        self.watch = Watch(config, task, self.env)
        self.context = Context(config, task, device, state)
        self.control = make_control(config.controller, self.context)
        self._angles = self.state.angles
        self._before: LoopState | None = None

    def hear(self, text: str) -> None:
        """Tell, once in a run, of what is odd about the environment and no error."""
        self.context.warn(text, once="environment")

    @property
    def state(self) -> LoopState:
        """All that decides the future."""
        return self.context.state

    @property
    def task(self) -> Task:
        """As the model learns it."""
        return self.context.task

    @property
    def model(self) -> DynamicsModel:
        """The newest dynamics model."""
        return self.context.model

    @property
    def sinks(self) -> Sequence[Sink]:
        """Who is told."""
        return self.context.sinks

    @sinks.setter
    def sinks(self, sinks: Sequence[Sink]) -> None:
        self.context.sinks = sinks

    # -- a trial ------------------------------------------------------------------------------------------------

    def run_trial(self, *, record: bool = False, on_step: OnStep | None = None) -> Trial | None:
        """One trial, from model fit to the new row of the history; None when ``on_step`` stopped it half-way.

        A trial that is stopped, or ends in an error of ours, leaves no trace: the state is what it was before. One
        whose environment breaks in the middle is kept up to there, and has a ``fault`` where the learning should end.

        Raises
        ------
        EnvironmentFault
            When the environment breaks before anything of the trial can be kept.
        """
        before = self._before = replace(self.state)
        trial = None
        try:
            trial = self._explore(record, on_step) if self._explores else self._improve(record, on_step)
        finally:
            self._before = None
            if trial is None:
                self._take_up(before)
                self.control = make_control(self.config.controller, self.context)
        return trial

    @property
    def _explores(self) -> bool:
        """Whether the next trial comes before the first model."""
        state, config = self.state, self.config.exploration
        if state.model:
            return False
        sound = sum(row.ended_by != "error" for row in state.history)  # a broken episode is too little to choose by
        few = state.env_steps < config.least_steps and len(state.data) > 0 and pays_for_life(self.task, state.data)
        return sound < config.trials or few

    @property
    def settled_state(self) -> LoopState:
        """The state between two trials: during one, as it was before it began."""
        return self.state if self._before is None else self._before

    def _improve(self, record: bool, on_step: OnStep | None) -> Trial | None:
        self._look_for_angles()
        self._choose_control()
        (_, model_time), (ready, policy_time) = _timed(self.update_model), _timed(self.control.prepare)
        episode, acting_time = _timed(lambda: self.act(ready.controller, record=record, on_step=on_step))
        if not episode.complete:
            return None
        if ready.thinks:
            policy_time, acting_time = policy_time + acting_time, 0.0
        new = episode.transitions(self.state.trials)
        score = self._score(new)
        judgement = self.watch.judge(episode)
        row = self._row(episode, (model_time, policy_time, acting_time), judgement, ready, score)
        self._remember(new, row)
        self.control.keep(ready, row)
        fan = None if ready.prediction is None else self._fan(ready.prediction, episode)
        apart = self._spread(ready.prediction, episode)
        verdict = self._verdict(row, episode, judgement)
        return Trial(row, fan, episode.frames, self._pit(score), self._rollout(new), apart, verdict)

    def _look_for_angles(self) -> None:
        """Look once for cosines and sines in the data, where nothing is said about them; states then hold angles."""
        state = self.state
        if state.angles is not None or not looks_for_angles(self.plain, self.config):
            return
        found = found_angles(self.plain, state.data)
        state.angles = [list(angle.columns) for angle in found]
        if not found:
            return
        state.data = restated(state.data, self.config, self.plain, understood(self.plain, self.config, state.angles))
        self._take_up(state)
        self.control = make_control(self.config.controller, self.context)
        for angle in found:
            self.context.say(found_text(self.plain, angle, len(state.data)))

    def _take_up(self, state: LoopState) -> None:
        """Go on from a state, with the task that it is about."""
        if state.angles != self._angles:
            task = understood(self.plain, self.config, state.angles)
            self.env = task.flat(self.env.env, self.hear)
            self.watch.task, self.watch.env, self.context.given = task, self.env, task
            self._angles = state.angles
        self.context.restore(state)

    def _choose_control(self) -> None:
        """Decide once what acts, where that is automatic, and say which settings it does not look at."""
        if self.config.controller == AUTO and self.state.controller is None:
            self.state.controller, why = choose(self.task, self.state.data)
            self.control = make_control(self.config.controller, self.context)
            self.context.say(why)
        unused = unused_text(self.config, self.state.controller or self.config.controller)
        if unused is not None:
            self.context.say(unused, once="unused")

    def _explore(self, record: bool, on_step: OnStep | None) -> Trial | None:
        task, trial = self.task, self.state.trials
        generator = numpy_generator(self.config.seed, "exploration", trial)
        actions = excitation(self.config.exploration.kind, task.horizon, task.low, task.high, task.dt, generator)
        episode, seconds = _timed(lambda: self.act(lambda _, step: actions[step], record=record, on_step=on_step))
        if not episode.complete:
            return None
        judgement = self.watch.judge(episode)
        row = self._row(episode, (None, None, seconds), judgement)
        new = episode.transitions(self.state.trials)
        self._remember(new, row)
        verdict = self._verdict(row, episode, judgement)
        return Trial(row, None, episode.frames, rollout=self._rollout(new), fault=verdict)

    def _verdict(self, row: TrialRow, episode: Episode, judgement: Judgement) -> UserError | None:
        return self.watch.verdict(row, episode, judgement, lambda once, text: self.context.warn(text, once))

    def _remember(self, new: Transitions, row: TrialRow) -> None:
        state = self.state
        state.data = state.data.append(new)
        state.env_steps = row.env_steps
        state.history = [*state.history, row]

    # -- its phases ---------------------------------------------------------------------------------------------

    def update_model(self) -> FitReport:
        """Fit the dynamics model to all data."""
        context = self.context
        if context.regresses is not None and not self.state.model:
            context.say(
                f"ends of episodes are learned by regression of 0 and 1, not as probabilities: {context.regresses}"
            )
        report = self.model.fit(self.state.data, context.generator("model"), context.progress("model"))
        self.state.model = self.model.snapshot()
        if report.diverged:
            context.say(
                f"trial {self.state.trials}: the model fit diverged by step {report.steps} and went back to "
                "its last good state; a smaller learning rate or a higher noise_floor may help"
            )
        for sink in self.sinks:
            sink.fitted(self.state.trials, asdict(report))
        return report

    def act(self, controller: Controller, *, record: bool = False, on_step: OnStep | None = None) -> Episode:
        """Run the next real episode."""
        seed = env_seed(self.config.seed, "env", self.state.trials)
        return run_episode(self.env, controller, seed, self.task.horizon, record=record, on_step=on_step)

    def delivered_controller(self, purpose: str) -> Controller:
        """What acts from now on."""
        return self.control.acting(purpose)

    def delivered_vectors(self) -> Callable[[Tensor], Tensor]:
        """The same as a function of states (B, D) that gives action vectors (B, M)."""
        return self.control.vectors()

    def imagine(
        self, num_envs: int, horizon: int | None, starts: str, follow: str, draws: int, observation_space: Any
    ) -> LearnedVectorEnv:
        """The newest model as a vector environment; see ``DynaPILCO.imagine``."""
        context = self.context
        if not self.state.model:
            raise UserError("imagine() before the first policy trial: there is no model yet; call learn() first")
        if starts not in STARTS:
            raise unknown_name("starts", starts, STARTS)
        if starts == "auto":
            starts = "reset" if horizon is None else "replay"
        generator = context.generator("imagine")
        count = draws or context.method.natural_draws(max(1, num_envs), self.config.rollout.most_weight_sets)
        draw = self.model.draw(count, generator)
        sampler = context.starts(starts)
        return LearnedVectorEnv(
            self.task, draw, observation_space, num_envs, horizon, sampler, follow, self.config.seed
        )

    # -- what came of it ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def _score(self, new: Transitions) -> OneStepScore:
        context = self.context
        generator = context.generator("calibration")
        draw = self.model.draw(max(20, context.method.natural_draws(50)), generator)
        assert self.model.targets is not None
        return one_step(draw, new.to(context.device), self.model.targets.std, generator)

    def _horizon(self, prediction: Prediction, observed: Tensor) -> HorizonScore:
        """The imagined trial beside the real one; each column in units of its spread in the data so far."""
        lasting = self.task.geometry.lasting
        predicted = prediction.particles[:, 1 : len(observed) + 1, lasting].cpu()
        states = self.state.data.states[:, lasting]
        spread_so_far = states.std(0) if len(states) > 1 else torch.zeros(len(lasting))
        unit = torch.where(spread_so_far > 0, spread_so_far, 1.0)
        return horizon(predicted, observed[: predicted.shape[1], lasting], unit)

    def _row(
        self,
        episode: Episode,
        seconds: tuple[float | None, float | None, float],
        judgement: Judgement,
        ready: Ready | None = None,
        score: OneStepScore | None = None,
    ) -> TrialRow:
        steps = self.state.env_steps + len(episode.actions)
        prediction = None if ready is None else ready.prediction
        observed = torch.as_tensor(episode.observations[1:])
        ahead = None if prediction is None else self._horizon(prediction, observed)
        return TrialRow(
            trial=self.state.trials,
            env_steps=steps,
            env_seconds=None if self.task.dt is None else steps * self.task.dt,
            ret=float(episode.rewards.sum(dtype=np.float64)),
            predicted_return=None if ready is None else ready.predicted_return,
            success=judgement.success,
            model_nll=None if score is None else score.nll,
            coverage_95_one_step=None if score is None else score.coverage,
            coverage_95_horizon=None if ahead is None else ahead.coverage,
            nan_rollouts=None if ready is None else ready.bad(),
            seconds_model=seconds[0],
            seconds_policy=seconds[1],
            seconds_env=seconds[2],
            ended_by=episode.ended_by,
            disagreements=None if judgement.disagreement is None else judgement.disagreement.steps,
            lost_candidates=None if ready is None else ready.lost,
            crps_one_step=None if score is None else score.crps,
            sharpness_one_step=None if score is None else score.sharpness,
            nll_horizon=None if ahead is None else ahead.nll,
            crps_horizon=None if ahead is None else ahead.crps,
            sharpness_horizon=None if ahead is None else ahead.sharpness,
            end_brier=None if score is None else score.brier,
            value_error=None if ready is None else ready.value_error,
        )

    def _fan(self, prediction: Prediction, episode: Episode) -> Fan:
        task, shown = self.task, self.task.geometry.present
        seconds = np.arange(len(episode.observations)) * (task.dt or 1.0)
        return Fan(
            seconds,
            prediction.particles[:, : len(seconds), shown].cpu().numpy(),
            episode.observations[:, shown],
            tuple(task.names[c] for c in shown),
            tuple(task.units[c] for c in shown),
            episode.actions,
            task.action_names,
            task.action_units,
        )

    def _pit(self, score: OneStepScore) -> Pit:
        return Pit(score.pit.numpy(), tuple(self.task.names[column] for column in score.columns))

    def _spread(self, prediction: Prediction | None, episode: Episode) -> Spread | None:
        if prediction is None or prediction.by_function is None:
            return None
        task = self.task
        known = prediction.by_function[: len(episode.observations)]
        epistemic, aleatoric = (std.cpu().numpy() for std in spread(known))
        return Spread(epistemic, aleatoric, task.names, task.units)

    def _rollout(self, new: Transitions) -> Rollout:
        task = self.task
        return Rollout(
            new.states.numpy(),
            new.next_states.numpy(),
            new.actions.numpy(),
            new.rewards.numpy(),
            task.dt,
            task.names,
            task.units,
            task.action_names,
            task.action_units,
        )


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What ``work`` gives, and the seconds that it took."""
    clock = time.perf_counter()
    return work(), time.perf_counter() - clock
