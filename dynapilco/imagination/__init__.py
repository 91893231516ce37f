"""The learned model as an environment: thousands of imagined episodes at once, for any agent."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynapilco.imagination.sb3 import LearnedVecEnv
    from dynapilco.imagination.single import LearnedEnv
    from dynapilco.imagination.vector_env import LearnedVectorEnv

__all__ = ["LearnedEnv", "LearnedVecEnv", "LearnedVectorEnv"]


def __getattr__(name: str) -> Any:  # stable-baselines3 takes seconds to import: only when something of it is asked for
    if name == "LearnedVecEnv":
        from dynapilco.imagination.sb3 import LearnedVecEnv

        return LearnedVecEnv
    if name == "LearnedEnv":
        from dynapilco.imagination.single import LearnedEnv

        return LearnedEnv
    if name == "LearnedVectorEnv":
        from dynapilco.imagination.vector_env import LearnedVectorEnv

        return LearnedVectorEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
