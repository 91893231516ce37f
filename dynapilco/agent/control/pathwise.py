"""A policy, improved by gradients of the predicted return."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dynapilco.agent.control.searched import SearchedControl
from dynapilco.rollout.risk import BY_MEAN
from dynapilco.search import PathwiseSearch, SearchReport


class PathwiseControl(SearchedControl):
    """Differentiates imagined returns through the model."""

    def worth(self) -> Callable[[Tensor], Tensor] | None:
        """By the objective, unless that is the mean or explores."""
        config = self.context.config.search
        return None if config.objective in BY_MEAN or config.optimism else config.worth

    def _search(self, warm: Tensor | None) -> SearchReport:
        context = self.context
        search = PathwiseSearch(
            self.policy,
            self.imagination(),
            context.config.search,
            context.generator("search"),
            context.progress("policy"),
        )
        return search.run(warm)

    def _what_went_bad(self, report: SearchReport) -> str:
        return (
            f"{report.bad_rollouts} candidate gradients were not finite and were skipped; "
            f"{report.restarts} candidates were started afresh"
        )
