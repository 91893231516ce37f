"""Policy search by pathwise gradients: the return of imagined particles, differentiated through the model.

    J(theta) = 1/T sum_t E_particles[ r(x_t, u_t, x_{t+1}) ],   dJ/dtheta by back-propagation through the rollout

(Deisenroth & Rasmussen 2011 in spirit; particles as in Gal et al. 2016). Several candidates share one batched rollout:
fresh starts and the newest policy, thinned by successive halving (Jamieson & Talwalkar 2016).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dynapilco.policies.base import Policy
from dynapilco.rollout import Damping, RolloutNoise, Simulator
from dynapilco.search.ascent import Schedule, climb, count, update
from dynapilco.search.candidates import Candidates
from dynapilco.search.config import SearchConfig
from dynapilco.search.imagination import Imagination, only_finite, predicted_returns
from dynapilco.search.replay import Recorder, Recording, cuda_graph
from dynapilco.search.report import SearchReport

REPORT_EVERY = 25
DEFAULT_DT = 0.05
"""Seconds a step, where the environment does not say, or where it says so many that no time constant lasts a step."""
CREDIT_EVERY = 20
"""Gradient steps after which the time constants of the gradients move, at the latest."""
GIVE_UP_AFTER = 25
"""Bad gradients in a row after which a candidate starts afresh."""
LOST_FOR = 10
"""Lost steps in a row after which it starts afresh."""
ATTEND_EVERY = 5
"""Steps of a recorded search after which the host looks at its counts."""
LATEST_START = 0.75
"""Share of the screening after which lost candidates are left to be dropped: a new one would come too late."""


class PathwiseSearch:
    """One search: owns the candidates (warm and fresh) and their optimiser.

    Parameters
    ----------
    policy : Policy
    imagination : Imagination
    config : SearchConfig
    generator : torch.Generator
        On the device of the particles.
    callback : callable, optional
        ``callback(done, total, metrics)``.
    """

    def __init__(
        self,
        policy: Policy,
        imagination: Imagination,
        config: SearchConfig,
        generator: torch.Generator,
        callback: Callable[[int, int, dict[str, float]], None] | None = None,
    ) -> None:
        self.policy, self.imagination, self.config = policy, imagination, config
        self.generator, self.callback = generator, callback
        self.bad_rollouts, self.restarts, self.lost = 0, 0, 0
        self.simulator: Simulator | None = None
        self.noise: RolloutNoise | None = None
        recorded = config.graphs and generator.device.type == "cuda"
        self.record: Recorder | None = partial(cuda_graph, device=generator.device) if recorded else None
        self._recording: Recording | None = None
        self._recorded: Tensor | None = None

    def run(self, warm: Tensor | None) -> SearchReport:
        """Search from ``fresh_starts`` new candidates and the warm ones (W, n), if there are any."""
        config = self.config
        self.begin(warm, config.fresh_starts)
        screening = min(config.screening_steps, config.steps)
        self._ascend(0, screening)
        returns = self._evaluate(self.candidates.params.detach())
        if len(returns) > config.survivors:
            keep = self.candidates.best(returns, config.survivors)
            self.candidates.keep(keep)
            self.simulator = None
            self.origin = [self.origin[i] for i in keep.tolist()]
        self._ascend(screening, config.steps)
        finalists, origin = self.candidates.params.detach(), self.origin
        if warm is not None:  # as they were: a search never has to accept less than it began with
            finalists, origin = torch.cat([finalists, warm]), [*origin, *["unchanged"] * len(warm)]
        returns = self._evaluate(finalists)
        best = int(returns.argmax()) if bool(torch.isfinite(returns).any()) else len(returns) - 1  # a warm one, if any
        winner = finalists[best].clone()
        return SearchReport(
            winner,
            self._fresh_look(winner),
            origin[best],
            returns.tolist(),
            self.bad_rollouts,
            self.restarts,
            self.lost,
        )

    def begin(self, warm: Tensor | None, fresh: int) -> None:
        """Set up the candidates, at least one."""
        warm = None if warm is None or not len(warm) else warm
        fresh = max(fresh, 0 if warm is not None else 1)
        parts = [] if warm is None else [warm]
        self.origin = ["warm"] * sum(len(part) for part in parts) + ["fresh"] * fresh
        if fresh:
            parts.append(self.policy.init(fresh, self.generator))
        params = torch.cat(parts)
        credit, final = self.config.credit_seconds, self.config.final_credit_seconds
        warmly = [final or credit[0]] * (len(params) - fresh)
        self.candidates = Candidates(params, warmly + [credit[i % len(credit)] for i in range(fresh)])

    def _ascend(self, first: int, last: int) -> None:
        for step in range(first, last):
            reward = self.step(step)
            if self.callback is not None and (step + 1) % REPORT_EVERY == 0:
                horizon = self.imagination.horizon
                self.callback(step + 1, self.config.steps, {"predicted_return": float(reward.max()) * horizon})
        self._attend()

    def _refresh(self, step: int) -> None:
        """New draws and new random numbers, each on its schedule."""
        im, config, size = self.imagination, self.config, len(self.candidates)
        if self.simulator is None or step % config.redraw_every == 0:
            draw = im.sample_draw(self.generator)
            self.simulator = im.simulator(draw, self.policy, self._damping(draw.size, step / config.steps))
            self.noise = None
        elif step % CREDIT_EVERY == 0:
            draw = self.simulator.draw
            self.simulator = im.simulator(draw, self.policy, self._damping(draw.size, step / config.steps))
        stale = self.noise is None or step % config.refresh_every == 0 or self.noise.start.shape[0] != size
        if stale:
            self.noise = im.noise(self.simulator.draw, size, self.generator, action_noise=config.action_noise > 0)

    def _damping(self, draws: int, done: float) -> Damping | None:
        """Each candidate's damping, for an objective that is a mean over steps and particles."""
        im, config = self.imagination, self.config
        credit = [credit_seconds(first, config.final_credit_seconds, done) for first in self.candidates.credit]
        if config.adjoint_limit == 0 and not any(credit):
            return None
        dt, share = self._seconds_a_step(), im.horizon * draws * im.particles
        decay = [math.exp(-dt / seconds) if seconds else 1.0 for seconds in credit]
        params = self.candidates.params
        return Damping(
            torch.tensor(decay, dtype=params.dtype, device=params.device),
            config.adjoint_limit / share,
            self.policy.state_spread,
        )

    def _seconds_a_step(self) -> float:
        """Seconds in which time constants are counted; of slow systems (a day a step) they would not last a step."""
        dt, constants = self.imagination.task.dt, (*self.config.credit_seconds, self.config.final_credit_seconds)
        shortest = min((seconds for seconds in constants if seconds), default=math.inf)
        return DEFAULT_DT if dt is None or dt > shortest else dt

    def step(self, step: int) -> Tensor:
        """Clipped Adam step number ``step`` of every candidate; returns its mean reward per candidate, (R,)."""
        self._refresh(step)
        done, config = step / self.config.steps, self.config
        schedule = Schedule(
            config.action_noise * max(0.0, 1.0 - done / 0.8),
            reward_power(config, done),
            cosine(config.learning_rate, done),
            float(done < LATEST_START * min(config.screening_steps, config.steps) / config.steps),
        )
        if self.record is not None:
            try:
                reward = self._replayed(self.record, schedule)
            except RuntimeError as error:
                self.record = self._recording = None
                warnings.warn(f"this search cannot be recorded as a CUDA graph, and is slower: {error}", stacklevel=2)
            else:
                if step % ATTEND_EVERY == 0:
                    self._attend()
                return reward
        assert self.simulator is not None and self.noise is not None
        found = climb(self.simulator, self.noise, self.candidates, self.imagination, config, schedule)
        count(self.candidates, found, config.clip_norm, schedule.early)
        self._attend()
        update(self.candidates, found, config.clip_norm, schedule.rate)
        return torch.where(found.good, found.reward, -torch.inf)

    def _replayed(self, record: Recorder, schedule: Schedule) -> Tensor:
        """The same step as one recorded call; recorded anew where shapes or candidates change."""
        assert self.simulator is not None and self.noise is not None
        inputs = (self.simulator.draw, self.simulator.damping, self.noise)
        numbers = {field.name: float(getattr(schedule, field.name)) for field in fields(schedule)}
        candidates, recording = self.candidates, self._recording
        if recording is None or self._recorded is not candidates.params or not recording.fits(inputs):
            device = candidates.params.device
            self._recording = recording = None  # gives its memory back first
            recording = Recording(self._whole_step, inputs, numbers, candidates.tensors(), device, record)
            self._recording, self._recorded = recording, candidates.params
        return recording(inputs, numbers)

    def _whole_step(self, inputs: Any, numbers: dict[str, Tensor]) -> Tensor:
        draw, damping, noise = inputs
        im, config, candidates, schedule = self.imagination, self.config, self.candidates, Schedule(**numbers)
        if config.initial_reward_power == config.final_reward_power == 1:
            schedule = replace(schedule, power=1.0)  # not clamped, as without a graph
        simulator = Simulator(draw, self.policy, im.particles, "torch", damping)
        found = climb(simulator, noise, candidates, im, config, schedule)
        count(candidates, found, config.clip_norm, schedule.early)
        update(candidates, found, config.clip_norm, schedule.rate)
        return torch.where(found.good, found.reward, -torch.inf)

    def _attend(self) -> None:
        """Start candidates afresh that stay bad or lost; the one place of a step that waits for the device."""
        candidates = self.candidates
        self.bad_rollouts += int(candidates.bad_steps)
        candidates.bad_steps.zero_()
        for i in (candidates.bad_in_a_row >= GIVE_UP_AFTER).nonzero().flatten().tolist():
            self._replace(i)
            self.restarts += 1
        for i in (candidates.lost_in_a_row >= LOST_FOR).nonzero().flatten().tolist():
            self._replace(i)
            self.lost += 1

    def _replace(self, row: int) -> None:
        self.candidates.replace(row, self.policy.init(1, self.generator)[0])
        self.origin[row] = "fresh"

    def _evaluate(self, params: Tensor) -> Tensor:
        """What each row of params (R, n) is worth over fresh draws and noise, without action noise; (R,)."""
        returns = predicted_returns(
            self.policy, params, self.imagination, self.generator, EVALUATIONS, self.config.worth
        )
        return self._finite(returns)

    def _fresh_look(self, winner: Tensor) -> float:
        """Its mean return once more, not discounted and without a terminal value: what won was lucky in its samples."""
        im = replace(self.imagination, discount=1.0, value=None)
        return float(self._finite(predicted_returns(self.policy, winner.unsqueeze(0), im, self.generator, EVALUATIONS)))

    def _finite(self, returns: Tensor) -> Tensor:
        self.bad_rollouts += int((~torch.isfinite(returns)).sum())
        return only_finite(returns)


EVALUATIONS = 8


def cosine(rate: float, done: float) -> float:
    """Learning rate after a share ``done`` of the steps: from ``rate`` down to ``rate`` / 500."""
    return rate / 500 + (rate - rate / 500) * 0.5 * (1 + math.cos(math.pi * done))


def reward_power(config: SearchConfig, done: float) -> float:
    """Power of the reward after a share ``done`` of the steps: geometric from initial to final until one half."""
    share = min(1.0, 2 * done)
    return config.initial_reward_power ** (1 - share) * config.final_reward_power**share


def credit_seconds(first: float, final: float, done: float) -> float:
    """Time constant of a candidate's gradients after a share ``done`` of the steps.

    Geometric from ``first`` to ``final`` until one half; where either is 0 it stays as it began (0 does not fade:
    there is no way between).
    """
    if final == 0 or first == 0:
        return first
    share = min(1.0, 2 * done)
    return first ** (1 - share) * final**share
