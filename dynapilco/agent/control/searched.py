"""A policy that is searched in the model, and those of all trials to choose from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dynapilco.agent.context import Context
from dynapilco.agent.control.base import Control, Prediction, Ready
from dynapilco.agent.episode import Controller
from dynapilco.policies import Policy, make_policy
from dynapilco.rollout import Simulator
from dynapilco.search import Imagination, SearchReport, only_finite, predicted_returns
from dynapilco.tracking.sink import TrialRow

SPREAD_PARTICLES = 8
"""Particles of each function where a method has a function for each particle, only to tell the two spreads apart."""


class SearchedControl(Control):
    """Searches a policy in the model, and keeps those of all trials to choose from."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.policy = self._make_policy()

    def prepare(self) -> Ready:
        """Search, and imagine the trial of the winner."""
        error = self.learn_value()
        found = self.search()
        return Ready(
            self._controller(found.params),
            found.params,
            self.predict_trial(found.params),
            found.predicted_return,
            lambda: found.bad_rollouts,
            found.lost,
            error,
        )

    def learn_value(self) -> float | None:
        """Learn what lies beyond the end of rollouts, where that is asked for; its error."""
        return None

    def search(self) -> SearchReport:
        """Improve the policy inside the model."""
        context = self.context
        if context.state.policy_scale is None:
            context.state.policy_scale = _scale(context.state.data.states)
            self.policy = self._make_policy()
        report = self._search(self.warm_starts())
        if report.bad_rollouts:
            context.say(f"trial {context.state.trials}: {self._what_went_bad(report)}")
        found = {"predicted_return": report.predicted_return, "bad_rollouts": report.bad_rollouts}
        for sink in context.sinks:
            sink.improved(context.state.trials, {**found, "restarts": report.restarts, "lost": report.lost})
        return report

    def imagination(self) -> Imagination:
        """What policies are compared with."""
        return self.context.imagination()

    @abstractmethod
    def worth(self) -> Callable[[Tensor], Tensor] | None:
        """What rewards (T, R, S, P) make a policy worth for its delivery, (R,) a step; None: their mean."""

    @abstractmethod
    def _search(self, warm: Tensor | None) -> SearchReport:
        """Search from warm starts (W, n) and new ones."""

    @abstractmethod
    def _what_went_bad(self, report: SearchReport) -> str:
        """Of rollouts that were not finite, as the end of a sentence."""

    @torch.no_grad()
    def predict_trial(self, params: Tensor) -> Prediction:
        """Imagine the coming trial under the policy (n,), as an observer would see it."""
        context = self.context
        imagination = replace(context.imagination(), starts=None)
        seen = apart = self._imagine_trial(params, imagination, context.generator("prediction"))
        if imagination.particles == 1:  # one particle cannot tell its function from its noise
            draws = max(2, context.config.rollout.total_particles // SPREAD_PARTICLES)
            fewer = replace(imagination, sample_draw=context.sampler(draws), particles=SPREAD_PARTICLES)
            apart = self._imagine_trial(params, fewer, context.generator("spread"))
        return Prediction(seen.flatten(1, 2).transpose(0, 1), apart)

    def _imagine_trial(self, params: Tensor, imagination: Imagination, generator: torch.Generator) -> Tensor:
        """What an observer would see, (T+1, S, P, D)."""
        draw = imagination.sample_draw(generator)
        noise = imagination.noise(draw, 1, generator)
        states = Simulator(draw, self.policy, imagination.particles)(params.unsqueeze(0), noise, imagination.horizon)
        seen = states.states
        if draw.sensor_std is not None:
            seen = seen + draw.sensor_std * torch.randn(seen.shape, generator=generator, device=seen.device)
        return self.context.task.geometry.shown(seen.squeeze(1))

    def keep(self, ready: Ready, row: TrialRow) -> None:
        """Add the policy's row, and choose anew which one to deliver."""
        assert ready.params is not None
        state, params = self.context.state, ready.params.detach().cpu().unsqueeze(0)
        state.policies = torch.cat([state.policies.reshape(-1, params.shape[1]), params])
        state.policy_trials = [*state.policy_trials, row.trial]
        state.delivered = self.choose_delivered()

    def choose_delivered(self) -> int:
        """Row of the best policy so far: the mean of its real return and of what the newest model predicts for it.

        The prediction is worth what the objective of the search makes of it, as of finalists; under an objective of
        exploration (optimism) the mean counts, for a policy is delivered to be used.
        """
        context = self.context
        state = context.state
        rows = [state.history[t] for t in state.policy_trials]
        real = torch.tensor([row.ret for row in rows])
        broken = torch.tensor([row.ended_by == "error" for row in rows])  # a part of a return compares with nothing
        params = state.policies.to(context.device)
        imagination = replace(self.imagination(), discount=1.0, value=None)
        predicted = predicted_returns(self.policy, params, imagination, context.generator("deliver"), 4, self.worth())
        whole = predicted * (context.task.horizon / imagination.horizon)  # a rollout may be shorter than a trial
        whole = only_finite(whole.cpu())
        return int((torch.where(broken, whole, real) + whole).argmax())

    def acting(self, purpose: str) -> Controller:
        """The delivered policy; a fresh one before the first policy trial."""
        return self._controller(self.delivered_params())

    def vectors(self) -> Callable[[Tensor], Tensor]:
        """The delivered policy, batched."""
        return partial(self.policy.act, self.delivered_params())

    def delivered_params(self) -> Tensor:
        """Parameters (n,) of the policy that ``predict`` uses; fresh ones before the first policy trial."""
        state = self.context.state
        if state.delivered is None:
            return self.policy.init(1, self.context.generator("untrained"))[0]
        return state.policies[state.delivered].to(self.context.device)

    def _controller(self, params: Tensor) -> Controller:
        """The policy with parameters (n,) as a function of a numpy observation."""

        @torch.no_grad()
        def control(observation: np.ndarray, _: int) -> np.ndarray:
            x = torch.as_tensor(observation, dtype=torch.float32, device=self.context.device).unsqueeze(0)
            return self.policy.act(params, x)[0].cpu().numpy()

        return control

    def _make_policy(self) -> Policy:
        context = self.context
        geometry, config = context.task.geometry, context.config
        low, high = (torch.as_tensor(b, device=context.device) for b in (context.task.low, context.task.high))
        scale = context.state.policy_scale
        scale = torch.ones(geometry.states) if scale is None else scale
        return make_policy(config.policy, config.policy_kwargs, geometry, low, high, scale.to(context.device))

    def warm_starts(self) -> Tensor | None:
        """The delivered policy and the newest one, (1 or 2, n)."""
        state = self.context.state
        if state.delivered is None:
            return None
        rows = sorted({state.delivered, len(state.policies) - 1})
        return state.policies[rows].to(self.context.device)


def _scale(states: Tensor) -> Tensor:
    """One over the spread of each column of the exploration data, (D,)."""
    if len(states) < 2:
        return torch.ones(states.shape[1])
    std = states.std(0)
    return torch.where(std > 1e-6, 1 / std.clamp_min(1e-6), torch.ones_like(std))
