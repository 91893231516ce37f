"""Policy search without gradients: evolution strategies on the parameters, inside the model.

    g = mean_i u_i eps_i,   u = centred ranks of the predicted returns of theta + sigma eps_i and theta - sigma eps_i

This is the likelihood-ratio gradient of a Gaussian over parameters (PGPE: Sehnke et al. 2010), with mirrored samples
and ranks as in Salimans et al. (2017); a learned model is the judge, as in Black-DROPS (Chatzilygeroudis et al. 2017).
It asks nothing of the reward: constants until an end, indicators and choices will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dynapilco.policies.base import Policy
from dynapilco.rollout import step_rewards
from dynapilco.rollout.risk import risk_value
from dynapilco.search.evolution_config import EvolutionConfig
from dynapilco.search.imagination import Imagination, only_finite, predicted_returns
from dynapilco.search.report import SearchReport
from dynapilco.search.rivals import Rivals, Tried

MOMENTUM = 0.9
LAST_STEP = 0.1
"""Length of the last step, as a share of the first."""
TIE_BREAK = 1e-6
"""Weight of the smooth return, which also tells how near an end was, where the returns themselves are equal."""
INITIAL_SPREADS = 256
"""Fresh policies that the unit of each parameter is taken from."""
CONSTANT_SPREAD = 0.3
"""The unit of parameters that are the same in every fresh policy (biases)."""
ALIVE = 0.1
"""Share of particles that still go on, above which the rollouts of the best policy are too short."""
EVALUATIONS = 4


class EvolutionSearch:
    """One search.

    Parameters
    ----------
    policy : Policy
    imagination : Imagination
        Over a whole trial, with the functions and particles of the configuration.
    config : EvolutionConfig
    generator : torch.Generator
        On the device of the particles.
    callback : callable, optional
        ``callback(done, total, metrics)``.
    """

    def __init__(
        self,
        policy: Policy,
        imagination: Imagination,
        config: EvolutionConfig,
        generator: torch.Generator,
        callback: Callable[[int, int, dict[str, float]], None] | None = None,
    ) -> None:
        self.policy, self.imagination, self.config = policy, imagination, config
        self.generator, self.callback = generator, callback
        whole = imagination.horizon
        self.steps = min(config.first_horizon, whole) if imagination.task.ends else whole
        self.bad_rollouts = 0

    @torch.no_grad()
    def run(self, warm: Tensor | None) -> SearchReport:
        """Search from the best of fresh policies and the warm ones (W, n), if there are any."""
        config = self.config
        self.unit = self._unit()
        starts = self.policy.init(config.fresh_starts, self.generator)
        warm = None if warm is None or not len(warm) else warm
        starts = starts if warm is None else torch.cat([warm, starts])
        first = self._best_start(starts)
        finalists = [*self._ascend(starts[first].clone()), starts[first]]
        origin = ["warm" if warm is not None and first < len(warm) else "fresh"] * len(finalists)
        if warm is not None:  # as they were: a search never has to accept less than it began with
            finalists, origin = [*finalists, *warm], [*origin, *["unchanged"] * len(warm)]
        rows = torch.stack(finalists)
        returns = self._evaluate(rows, config.worth)
        winner = int(returns.argmax()) if bool(torch.isfinite(returns).any()) else len(returns) - 1
        params = rows[winner].clone()
        self.imagination = replace(self.imagination, discount=1.0)
        predicted = float(self._evaluate(params.unsqueeze(0)))  # once more: the winner's own samples flatter it
        return SearchReport(params, predicted, origin[winner], returns.tolist(), self.bad_rollouts, 0, 0)

    def _unit(self) -> Tensor:
        """How far apart fresh policies lie, parameter by parameter, (n,)."""
        spread = self.policy.init(INITIAL_SPREADS, self.generator).std(0)
        return torch.where(spread > 0, spread, torch.full_like(spread, CONSTANT_SPREAD))

    def _best_start(self, starts: Tensor) -> int:
        """The best row, by rollouts as long as it needs."""
        while True:
            tried = self._try(starts)
            best = int(tried.values.argmax())
            if not self._lengthen(float(tried.alive[best])):
                return best

    def _ascend(self, centre: Tensor) -> list[Tensor]:
        """The last centre and the best one, the best single policy and the last leader.

        What a policy is worth differs from generation to generation by the functions and the noise that are drawn, so
        that records over generations go to the lucky. The best so far are therefore tried again in every generation,
        under the same draws as those that challenge them: the present centre, and the last generation's leader.
        """
        config, half = self.config, self.config.population // 2
        momentum, rivals, since = torch.zeros_like(centre), Rivals(centre), 0
        for generation in range(config.generations):
            noise = torch.randn(half, len(centre), generator=self.generator, device=centre.device)
            away = config.spread * self.unit * noise
            rows = torch.cat([centre.unsqueeze(0), centre + away, centre - away])
            everyone = self._try(torch.cat([rows, rivals.rows()]))
            values = everyone.values[: len(rows)]
            better = rivals.judge(everyone, centre, self.config)
            since = 0 if generation == 0 or better else since + 1
            leader = int(values.argmax())
            rivals.leader = rows[leader].clone()
            utility = _utilities(values[1:])
            momentum = MOMENTUM * momentum + (1 - MOMENTUM) * (utility[:half] - utility[half:]) @ noise
            rate = config.learning_rate * (1 - (1 - LAST_STEP) * generation / config.generations)
            length = rate * config.spread * len(centre) ** 0.5
            centre = centre + length * self.unit * momentum / momentum.norm().clamp_min(1e-12)
            if self.callback is not None:
                self.callback(generation + 1, config.generations, {"predicted_return": float(values[0])})
            if self._lengthen(float(everyone.alive[leader])):
                since = 0
            if since >= config.patience:
                break
        return [centre, rivals.centre, rivals.best, rivals.leader]

    def _lengthen(self, alive: float) -> bool:
        """Twice as long rollouts from now on, where the best policy outlives them and trials are longer."""
        whole = self.imagination.horizon
        if self.steps >= whole or alive < ALIVE:
            return False
        self.steps = min(whole, 2 * self.steps)
        return True

    def _try(self, rows: Tensor) -> Tried:
        """Imagine policies (R, n) over the present horizon, all under the same draws."""
        im, config = replace(self.imagination, steps=self.steps), self.config
        draw = im.sample_draw(self.generator)
        trajectories = im.simulator(draw, self.policy)(rows, im.noise(draw, len(rows), self.generator), im.horizon)
        returns = step_rewards(im.task, trajectories, discount=im.discount).sum(0)
        values = risk_value(returns, config.objective, config.risk_share, config.risk_weight)
        self.bad_rollouts += int((~torch.isfinite(values)).sum())
        if not im.task.ends:
            return Tried(returns, only_finite(values), torch.zeros_like(values))
        soft = step_rewards(im.task, trajectories, smooth=True).sum(0)
        states, actions = trajectories.states, trajectories.actions
        alive = ~im.task.ended(states[:-1], actions, states[1:], torch).any(0)
        values = only_finite(values + TIE_BREAK * torch.nan_to_num(soft.mean((1, 2))))
        return Tried(returns + TIE_BREAK * torch.nan_to_num(soft), values, alive.to(values.dtype).mean((1, 2)))

    def _evaluate(self, rows: Tensor, worth: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What policies (R, n) are worth over whole rollouts, (R,): their mean returns, or by ``worth``."""
        returns = predicted_returns(self.policy, rows, self.imagination, self.generator, EVALUATIONS, worth)
        self.bad_rollouts += int((~torch.isfinite(returns)).sum())
        return only_finite(returns)


def _utilities(values: Tensor) -> Tensor:
    """Ranks of values (R,), centred and between -1/2 and 1/2; equals share the mean of their ranks.

    What is not finite comes last.
    """
    order = values.sort().values
    first, end = torch.searchsorted(order, values), torch.searchsorted(order, values, right=True)
    ranks = (first + end - 1).to(values.dtype) / 2
    return ranks / max(1, len(values) - 1) - 0.5
