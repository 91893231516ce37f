"""The learned model as an environment: thousands of imagined episodes at once, for any agent."""

from dynapilco.imagination.sb3 import LearnedVecEnv
from dynapilco.imagination.vector_env import LearnedVectorEnv

__all__ = ["LearnedVecEnv", "LearnedVectorEnv"]
