"""Policy search by pathwise gradients: the return of imagined particles, differentiated through the model.

    J(theta) = 1/T sum_t E_particles[ r(x_t, u_t, x_{t+1}) ],   dJ/dtheta by back-propagation through the rollout

(Deisenroth & Rasmussen 2011 in spirit; particles as in Gal et al. 2016). Several candidates share one batched rollout:
fresh starts and the newest policy, thinned by successive halving (Jamieson & Talwalkar 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.policies.base import Policy
from dynapilco.rollout import Damping, RolloutNoise, Simulator, step_rewards
from dynapilco.search.candidates import Candidates
from dynapilco.search.config import SearchConfig
from dynapilco.search.imagination import Imagination, only_finite, predicted_returns
from dynapilco.search.report import SearchReport

REPORT_EVERY = 25
DEFAULT_DT = 0.05
"""Seconds a step, where the environment does not say."""
CREDIT_EVERY = 20
"""Gradient steps after which the time constants of the gradients move, at the latest."""
GIVE_UP_AFTER = 25
"""Bad gradients in a row after which a candidate starts afresh."""
LOST_GRADIENT = 1e-3
"""A candidate is lost at a step where its gradient is below this share of the largest (clipped) one and its return
nearer to the worst than to the best: where a narrow reward underflows, no gradient leads back."""
LOST_FOR = 10
"""Lost steps in a row after which it starts afresh."""
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
        dt, share = im.task.dt or DEFAULT_DT, im.horizon * draws * im.particles
        decay = [math.exp(-dt / seconds) if seconds else 1.0 for seconds in credit]
        params = self.candidates.params
        return Damping(
            torch.tensor(decay, dtype=params.dtype, device=params.device),
            config.adjoint_limit / share,
            self.policy.state_spread,
        )

    def step(self, step: int) -> Tensor:
        """Clipped Adam step number ``step`` of every candidate; returns J per candidate, (R,)."""
        self._refresh(step)
        config, params = self.config, self.candidates.params
        assert self.simulator is not None and self.noise is not None
        done = step / config.steps
        action_std = config.action_noise * max(0.0, 1.0 - done / 0.8)
        horizon = self.imagination.horizon
        trajectories = self.simulator(params, self.noise, horizon, action_std)
        rewards = step_rewards(self.imagination.task, trajectories, smooth=True, discount=self.imagination.discount)
        power = reward_power(config, done)
        powered = rewards if power == 1 else rewards.clamp_min(1e-30) ** power
        objective = config.worth(powered)
        if not objective.requires_grad:
            raise UserError(
                "the reward is the same whatever the policy does, as far as gradients tell: a pathwise search needs a "
                "reward (or the margin of an end) that changes smoothly with states or actions"
            )
        (gradient,) = torch.autograd.grad(objective.sum(), params)
        good = torch.isfinite(gradient).all(1) & torch.isfinite(objective)
        self._guard(good)
        gradient = torch.where(good.unsqueeze(1), -gradient, torch.zeros_like(gradient))
        norm = gradient.norm(dim=1, keepdim=True)
        if done < LATEST_START * min(config.screening_steps, config.steps) / config.steps:
            self._start_lost_afresh(norm.squeeze(1), objective.detach())
        gradient = gradient * (config.clip_norm / norm.clamp_min(config.clip_norm))
        self.candidates.update(gradient, cosine(config.learning_rate, done), good)
        return torch.where(good, rewards.detach().mean((0, 2, 3)), -torch.inf)

    def _guard(self, good: Tensor) -> None:
        """Count candidates whose numbers went bad; restart those that stay bad."""
        bad = ~good
        if not bool(bad.any()):
            self.candidates.bad_in_a_row.zero_()
            return
        self.bad_rollouts += int(bad.sum())
        counts = self.candidates.bad_in_a_row
        counts.copy_(torch.where(bad, counts + 1, 0))
        for i in (counts >= GIVE_UP_AFTER).nonzero().flatten().tolist():
            self._replace(i)
            self.restarts += 1

    def _start_lost_afresh(self, norms: Tensor, returns: Tensor) -> None:
        """Give candidates that are far from all reward another start; as ``LOST_GRADIENT`` defines it."""
        largest = norms.clamp_max(self.config.clip_norm).max()
        finite = torch.isfinite(returns)
        if not bool(finite.any()):
            return
        worst, best = returns[finite].aminmax()
        lost = (norms < LOST_GRADIENT * largest) & (returns < (worst + best) / 2)
        counts = self.candidates.lost_in_a_row
        counts.copy_(torch.where(lost, counts + 1, 0))
        for i in (counts >= LOST_FOR).nonzero().flatten().tolist():
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
        """Its mean return once more, not discounted: what won by some samples looks too good in them."""
        im = replace(self.imagination, discount=1.0)
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
