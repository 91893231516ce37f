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
        centre, best = self._ascend(starts[first].clone())
        finalists = [centre, best, starts[first]] if best is not None else [centre, starts[first]]
        origin = ["warm" if warm is not None and first < len(warm) else "fresh"] * len(finalists)
        if warm is not None:  # as they were: a search never has to accept less than it began with
            finalists, origin = [*finalists, *warm], [*origin, *["unchanged"] * len(warm)]
        rows = torch.stack(finalists)
        returns = self._evaluate(rows, self._worth)
        winner = int(returns.argmax()) if bool(torch.isfinite(returns).any()) else len(returns) - 1
        params = rows[winner].clone()
        self.imagination = replace(self.imagination, discount=1.0)
        predicted = float(self._evaluate(params.unsqueeze(0)))  # once more: the winner's own samples flatter it
        return SearchReport(params, predicted, origin[winner], returns.tolist(), self.bad_rollouts, 0, 0)

    def _worth(self, rewards: Tensor) -> Tensor:
        """What a step is worth by the objective, (R,), from rewards (T, R, S, P)."""
        config = self.config
        return risk_value(rewards.mean(0), config.objective, config.risk_share, config.risk_weight)

    def _unit(self) -> Tensor:
        """How far apart fresh policies lie, parameter by parameter, (n,)."""
        spread = self.policy.init(INITIAL_SPREADS, self.generator).std(0)
        return torch.where(spread > 0, spread, torch.full_like(spread, CONSTANT_SPREAD))

    def _best_start(self, starts: Tensor) -> int:
        """The best row, by rollouts as long as it needs."""
        while True:
            values, alive = self._values(starts)
            best = int(values.argmax())
            if not self._lengthen(float(alive[best])):
                return best

    def _ascend(self, centre: Tensor) -> tuple[Tensor, Tensor | None]:
        """The last centre, and the best single policy at the longest horizon, None where none was finite."""
        config = self.config
        momentum, best, top = torch.zeros_like(centre), None, -torch.inf
        top_centre, since = -torch.inf, 0
        for generation in range(config.generations):
            half = config.population // 2
            noise = torch.randn(half, len(centre), generator=self.generator, device=centre.device)
            away = config.spread * self.unit * noise
            rows = torch.cat([centre.unsqueeze(0), centre + away, centre - away])
            values, alive = self._values(rows)
            leader = int(values.argmax())
            if float(values[leader]) > top:
                top, best = float(values[leader]), rows[leader].clone()
            since = 0 if float(values[0]) > top_centre else since + 1
            top_centre = max(top_centre, float(values[0]))
            utility = _utilities(values[1:])
            momentum = MOMENTUM * momentum + (1 - MOMENTUM) * (utility[:half] - utility[half:]) @ noise
            rate = config.learning_rate * (1 - (1 - LAST_STEP) * generation / config.generations)
            length = rate * config.spread * len(centre) ** 0.5
            centre = centre + length * self.unit * momentum / momentum.norm().clamp_min(1e-12)
            if self.callback is not None:
                self.callback(generation + 1, config.generations, {"predicted_return": float(values[0])})
            if self._lengthen(float(alive[leader])):
                top, top_centre, since, best = -torch.inf, -torch.inf, 0, None
            if since >= config.patience:
                break
        return centre, best

    def _lengthen(self, alive: float) -> bool:
        """Twice as long rollouts from now on, where the best policy outlives them and trials are longer."""
        whole = self.imagination.horizon
        if self.steps >= whole or alive < ALIVE:
            return False
        self.steps = min(whole, 2 * self.steps)
        return True

    def _values(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What policies (R, n) are worth over the present horizon, and the share that still goes on; (R,) each."""
        im, config = replace(self.imagination, steps=self.steps), self.config
        draw = im.sample_draw(self.generator)
        trajectories = im.simulator(draw, self.policy)(rows, im.noise(draw, len(rows), self.generator), im.horizon)
        hard = step_rewards(im.task, trajectories, discount=im.discount).sum(0)
        values = risk_value(hard, config.objective, config.risk_share, config.risk_weight)
        bad = ~torch.isfinite(values)
        self.bad_rollouts += int(bad.sum())
        if not im.task.ends:
            return only_finite(values), torch.zeros_like(values)
        soft = step_rewards(im.task, trajectories, smooth=True).sum(0).mean((1, 2))
        states, actions = trajectories.states, trajectories.actions
        alive = ~im.task.ended(states[:-1], actions, states[1:], torch).any(0)
        return only_finite(values + TIE_BREAK * torch.nan_to_num(soft)), alive.to(values.dtype).mean((1, 2))

    def _evaluate(self, rows: Tensor, worth: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What policies (R, n) are worth over whole rollouts, (R,): their mean returns, or by ``worth``."""
        returns = predicted_returns(self.policy, rows, self.imagination, self.generator, EVALUATIONS, worth)
        self.bad_rollouts += int((~torch.isfinite(returns)).sum())
        return only_finite(returns)


def _utilities(values: Tensor) -> Tensor:
    """Ranks of values (R,), centred and between -1/2 and 1/2; what is not finite comes last."""
    ranks = values.argsort(stable=True).argsort(stable=True).to(values.dtype)
    return ranks / max(1, len(values) - 1) - 0.5
