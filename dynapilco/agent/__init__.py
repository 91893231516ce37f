"""The loop over one LoopState, and ``DynaPILCO``, its stable-baselines3 face."""

from typing import TYPE_CHECKING, Any

from dynapilco.agent.config import AgentConfig, ExplorationConfig

if TYPE_CHECKING:
    from dynapilco.agent.algorithm import DynaPILCO
    from dynapilco.agent.evaluation import Evaluation

__all__ = ["AgentConfig", "DynaPILCO", "Evaluation", "ExplorationConfig"]


def __getattr__(
    name: str,
) -> Any:  # stable-baselines3 takes seconds to import: only when an agent is asked for
    if name == "DynaPILCO":
        from dynapilco.agent.algorithm import DynaPILCO

        return DynaPILCO
    if name == "Evaluation":
        from dynapilco.agent.evaluation import Evaluation

        return Evaluation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
