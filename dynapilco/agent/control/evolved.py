"""A policy, improved without gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from dynapilco.agent.control.searched import SearchedControl
from dynapilco.rollout.risk import BY_MEAN
from dynapilco.search import EvolutionSearch, Imagination, SearchReport


class EvolvedControl(SearchedControl):
    """Evolution strategies over whole imagined trials from where real ones begin."""

    def imagination(self) -> Imagination:
        """Whole trials, under the functions and particles of the section ``evolution``."""
        context = self.context
        config = context.config.evolution
        return replace(
            context.imagination(),
            sample_draw=context.sampler(config.draws),
            particles=config.particles,
            steps=context.task.horizon,
            starts=None,
        )

    def worth(self) -> Callable[[Tensor], Tensor] | None:
        """By the objective, unless that is the mean or explores."""
        config = self.context.config.evolution
        return None if config.objective in BY_MEAN else config.worth

    def _search(self, warm: Tensor | None) -> SearchReport:
        context = self.context
        search = EvolutionSearch(
            self.policy,
            self.imagination(),
            context.config.evolution,
            context.generator("search"),
            context.progress("policy"),
        )
        return search.run(warm)

    def _what_went_bad(self, report: SearchReport) -> str:
        return f"{report.bad_rollouts} rollouts of imagined policies were not finite and came last"
