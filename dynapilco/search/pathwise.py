"""Policy search by pathwise gradients: the return of imagined particles, differentiated through the model.

    J(theta) = 1/T sum_t E_particles[ r(x_t, u_t, x_{t+1}) ],   dJ/dtheta by back-propagation through the rollout

(Deisenroth & Rasmussen 2011 in spirit; particles as in Gal et al. 2016). Several candidates share one batched rollout:
fresh starts and the newest policy, thinned by successive halving (Jamieson & Talwalkar 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.policies.base import Policy
from dynapilco.rollout import Damping, RolloutNoise, Simulator, Trajectories, sample_noise
from dynapilco.search.config import SearchConfig
from dynapilco.tasks.task import Task

REPORT_EVERY = 25
DEFAULT_DT = 0.05
"""Seconds a step, where the environment does not say."""
GIVE_UP_AFTER = 25
"""Bad gradients in a row after which a candidate starts afresh."""


@dataclass(frozen=True)
class Imagination:
    """What a search imagines with: the task, a source of draws, and how many particles.

    Attributes
    ----------
    task : Task
    sample_draw : callable
        ``sample_draw(generator)`` -> DynamicsDraw.
    particles : int
        Particles for each function.
    moment_matching : bool
    engine : str
        Of the rollouts: ``"auto"``, ``"fused"`` or ``"torch"``.
    """

    task: Task
    sample_draw: Callable[[torch.Generator], DynamicsDraw]
    particles: int
    moment_matching: bool
    engine: str = "auto"

    def simulator(self, draw: DynamicsDraw, policy: Policy, damping: Damping | None = None) -> Simulator:
        """A simulator of one draw."""
        return Simulator(draw, policy, self.particles, self.engine, damping)


@dataclass(frozen=True)
class SearchReport:
    """What a search found.

    Attributes
    ----------
    params : Tensor
        The best candidate, (n,).
    predicted_return : float
        Its mean imagined return over a whole trial, by fresh draws, in the units of the task's reward.
    winner : str
        Where the winner came from: ``"warm"``, ``"fresh"``, or ``"unchanged"`` (a warm start as it was).
    returns : list of float
        Predicted returns of the finalists.
    bad_rollouts : int
        Batches of a candidate's particles that had non-finite numbers (in the rollout or its gradient).
    restarts : int
        Candidates that were re-initialised because of them.
    """

    params: Tensor
    predicted_return: float
    winner: str
    returns: list[float]
    bad_rollouts: int
    restarts: int


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
        self.bad_rollouts, self.restarts = 0, 0
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
            keep = returns.argsort(descending=True)[: config.survivors]
            self.candidates.keep(keep)
            self.simulator = None
            self.origin = [self.origin[i] for i in keep.tolist()]
        self._ascend(screening, config.steps)
        finalists, origin = self.candidates.params.detach(), self.origin
        if warm is not None:  # as they were: a search never has to accept less than it began with
            finalists, origin = torch.cat([finalists, warm]), [*origin, *["unchanged"] * len(warm)]
        returns = self._evaluate(finalists)
        best = int(returns.argmax())
        winner = finalists[best].clone()
        return SearchReport(
            winner,
            float(
                self._evaluate(winner.unsqueeze(0), optimism=0.0)
            ),  # once more: what won by these samples looks too good in them
            origin[best],
            returns.tolist(),
            self.bad_rollouts,
            self.restarts,
        )

    def begin(self, warm: Tensor | None, fresh: int) -> None:
        """Set up the candidates, at least one."""
        fresh = max(fresh, 0 if warm is not None else 1)
        parts = [] if warm is None else [warm]
        self.origin = ["warm"] * sum(len(part) for part in parts) + ["fresh"] * fresh
        if fresh:
            parts.append(self.policy.init(fresh, self.generator))
        params = torch.cat(parts)
        dt, credit = self.imagination.task.dt or DEFAULT_DT, self.config.credit_seconds
        decays = [math.exp(-dt / seconds) if seconds else 1.0 for seconds in credit]
        cycle = [decays[i % len(decays)] for i in range(len(params))]
        self.candidates = Candidates(params, torch.tensor(cycle, dtype=params.dtype, device=params.device))

    def _ascend(self, first: int, last: int) -> None:
        for step in range(first, last):
            reward = self.step(step)
            if self.callback is not None and (step + 1) % REPORT_EVERY == 0:
                horizon = self.imagination.task.horizon
                self.callback(step + 1, self.config.steps, {"predicted_return": float(reward.max()) * horizon})

    def _refresh(self, step: int) -> None:
        """New draws and new random numbers, each on its schedule."""
        im, config, size = self.imagination, self.config, len(self.candidates)
        if self.simulator is None or step % config.redraw_every == 0:
            draw = im.sample_draw(self.generator)
            self.simulator = im.simulator(draw, self.policy, self._damping(draw.size))
            self.noise = None
        stale = self.noise is None or step % config.refresh_every == 0 or self.noise.start.shape[0] != size
        if stale:
            self.noise = sample_noise(
                im.task,
                self.simulator.draw,
                im.task.horizon,
                size,
                im.particles,
                self.generator,
                moment_matching=im.moment_matching,
                action_noise=config.action_noise > 0,
            )

    def _damping(self, draws: int) -> Damping | None:
        """Each candidate's damping, for an objective that is a mean over steps and particles."""
        im, config = self.imagination, self.config
        if config.adjoint_limit == 0 and not any(config.credit_seconds):
            return None
        share = im.task.horizon * draws * im.particles
        return Damping(self.candidates.decay, config.adjoint_limit / share, self.policy.state_spread)

    def step(self, step: int) -> Tensor:
        """Clipped Adam step number ``step`` of every candidate; returns J per candidate, (R,)."""
        self._refresh(step)
        config, params = self.config, self.candidates.params
        assert self.simulator is not None and self.noise is not None
        done = step / config.steps
        action_std = config.action_noise * max(0.0, 1.0 - done / 0.8)
        horizon = self.imagination.task.horizon
        trajectories = self.simulator(params, self.noise, horizon, action_std)
        rewards = step_rewards(self.imagination.task, trajectories)
        power = reward_power(config, done)
        powered = rewards if power == 1 else rewards.clamp_min(1e-30) ** power
        objective = optimistic_mean(powered.mean((0, 3)), config.optimism)
        (gradient,) = torch.autograd.grad(objective.sum(), params)
        good = torch.isfinite(gradient).all(1) & torch.isfinite(objective)
        self._guard(good)
        gradient = torch.where(good.unsqueeze(1), -gradient, torch.zeros_like(gradient))
        norm = gradient.norm(dim=1, keepdim=True)
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
            self.candidates.replace(i, self.policy.init(1, self.generator)[0])
            self.origin[i] = "fresh"
            self.restarts += 1

    def _evaluate(self, params: Tensor, optimism: float | None = None) -> Tensor:
        """Predicted return of each row of params (R, n) over fresh draws and noise, without action noise; (R,)."""
        optimism = self.config.optimism if optimism is None else optimism
        returns = predicted_returns(self.policy, params, self.imagination, self.generator, EVALUATIONS, optimism)
        self.bad_rollouts += int((~torch.isfinite(returns)).sum())
        return only_finite(returns)


EVALUATIONS = 8


def only_finite(returns: Tensor) -> Tensor:
    """Returns with everything that is not finite at the end of any ranking, +infinity too."""
    return torch.where(torch.isfinite(returns), returns, -torch.inf)


def step_rewards(task: Task, trajectories: Trajectories) -> Tensor:
    """Rewards (T, R, S, P) of imagined transitions."""
    states = trajectories.states
    return task.reward(states[:-1], trajectories.actions, states[1:], torch)


def predicted_returns(
    policy: Policy,
    params: Tensor,
    imagination: Imagination,
    generator: torch.Generator,
    repeats: int,
    optimism: float = 0.0,
) -> Tensor:
    """Mean (or optimistic mean) imagined return over a trial of candidates (R, n), by ``repeats`` fresh draws; (R,)."""
    im = imagination
    total = torch.zeros(params.shape[0], device=params.device)
    with torch.no_grad():
        for _ in range(repeats):
            draw = im.sample_draw(generator)
            noise = sample_noise(
                im.task,
                draw,
                im.task.horizon,
                len(params),
                im.particles,
                generator,
                moment_matching=im.moment_matching,
            )
            trajectories = im.simulator(draw, policy)(params, noise, im.task.horizon)
            total += im.task.horizon * optimistic_mean(step_rewards(im.task, trajectories).mean((0, 3)), optimism)
    return total / repeats


def optimistic_mean(values: Tensor, beta: float) -> Tensor:
    """(1 / beta) log mean_s exp(beta v_s) of values (R, S), (R,); the mean for beta = 0."""
    if beta == 0:
        return values.mean(1)
    return (torch.logsumexp(beta * values, 1) - math.log(values.shape[1])) / beta


def cosine(rate: float, done: float) -> float:
    """Learning rate after a share ``done`` of the steps: from ``rate`` down to ``rate`` / 500."""
    return rate / 500 + (rate - rate / 500) * 0.5 * (1 + math.cos(math.pi * done))


def reward_power(config: SearchConfig, done: float) -> float:
    """Power of the reward after a share ``done`` of the steps: geometric from initial to final until one half."""
    share = min(1.0, 2 * done)
    return config.initial_reward_power ** (1 - share) * config.final_reward_power**share


class Candidates:
    """R policies with their Adam moments (Kingma & Ba 2015), row by row independent.

    Parameters
    ----------
    params : Tensor
        (R, n).
    decay : Tensor
        How much of an adjoint passes back through a step, (R,).
    """

    BETAS, EPSILON = (0.9, 0.999), 1e-8

    def __init__(self, params: Tensor, decay: Tensor) -> None:
        self.decay = decay
        self.params = params.detach().clone().requires_grad_(True)
        self.first, self.second = torch.zeros_like(params), torch.zeros_like(params)
        self.count = torch.zeros(len(params), 1, device=params.device)
        self.bad_in_a_row = torch.zeros(len(params), dtype=torch.int64, device=params.device)

    def __len__(self) -> int:
        return len(self.params)

    def update(self, gradient: Tensor, rate: float, good: Tensor) -> None:
        """One Adam step on the rows that are ``good``; the others stay as they are."""
        b1, b2 = self.BETAS
        rows = good.unsqueeze(1)
        self.count += rows
        self.first.copy_(torch.where(rows, torch.lerp(gradient, self.first, b1), self.first))
        self.second.copy_(torch.where(rows, torch.lerp(gradient.square(), self.second, b2), self.second))
        count = self.count.clamp_min(1)
        step = (self.first / (1 - b1**count)) / ((self.second / (1 - b2**count)).sqrt() + self.EPSILON)
        with torch.no_grad():
            self.params -= rate * rows * step

    def keep(self, index: Tensor) -> None:
        """Only the candidates ``index`` go on."""
        for name in ("first", "second", "count", "bad_in_a_row", "decay"):
            setattr(self, name, getattr(self, name)[index].clone())
        self.params = self.params.detach()[index].clone().requires_grad_(True)

    def replace(self, row: int, params: Tensor) -> None:
        """Put a new candidate in place of one."""
        with torch.no_grad():
            self.params[row] = params
        for name in ("first", "second", "count", "bad_in_a_row"):
            getattr(self, name)[row] = 0
