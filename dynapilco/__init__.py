"""dynapilco: model-based reinforcement learning with Bayesian dynamics and selectable inference.

>>> from dynapilco import DynaPILCO
>>> agent = DynaPILCO("MlpPolicy", "dynapilco/CartPoleSwingUp-v0", inference="random_features", seed=0)
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import gymnasium

import dynapilco_envs  # noqa: F401  (registers the environments)

if TYPE_CHECKING:
    from dynapilco.agent.algorithm import DynaPILCO

try:
    __version__ = version("dynapilco")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["DynaPILCO", "__version__"]

LEARNED = "dynapilco/Learned-v0"
if LEARNED not in gymnasium.registry:  # the model of a saved run: make_vec(LEARNED, num_envs=64, run_dir="runs/x")
    gymnasium.register(
        LEARNED,
        entry_point="dynapilco.agent.learned:learned_env",
        vector_entry_point="dynapilco.agent.learned:learned_vector_env",
        order_enforce=True,
    )


def __getattr__(name: str) -> Any:  # import torch and stable-baselines3 only when the agent is asked for
    if name == "DynaPILCO":
        from dynapilco.agent.algorithm import DynaPILCO

        return DynaPILCO
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
