"""A policy, improved by gradients of the predicted return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from dynapilco.agent.control.beyond import LEARNED, learn_value, terminal_value
from dynapilco.agent.control.searched import SearchedControl
from dynapilco.rollout.risk import BY_MEAN
from dynapilco.search import Imagination, PathwiseSearch, SearchReport


class PathwiseControl(SearchedControl):
    """Differentiates imagined returns through the model."""

    def learn_value(self) -> float | None:
        """Of the newest policy; before there is one, nothing."""
        context = self.context
        config, policies = context.config.rollout, context.state.policies
        if config.terminal_value != LEARNED or not len(policies):
            return None
        return learn_value(context, config.discount, self.policy, policies[-1].to(context.device))

    def imagination(self) -> Imagination:
        """With the terminal value, once there is one."""
        return replace(self.context.imagination(), value=terminal_value(self.context))

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
