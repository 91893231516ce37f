"""Swing-up tasks of the literature on data-efficient model-based reinforcement learning, for gymnasium.

Importing the package registers ``dynapilco/CartPoleSwingUp-v0``, ``dynapilco/CartPoleSwingUpPILCO-v0``,
``dynapilco/PendulumSwingUp-v0`` and ``dynapilco/DoubleCartPoleSwingUp-v0``; a process that has not imported
it (a spawned worker, say) names the package: ``"dynapilco_envs:dynapilco/CartPoleSwingUp-v0"``.
"""

import gymnasium

from .cart_pole import CartPoleSwingUp, CartPoleSwingUpPILCO
from .double_cart_pole import DoubleCartPoleSwingUp
from .pendulum import PendulumSwingUp

TASKS = (CartPoleSwingUp, CartPoleSwingUpPILCO, PendulumSwingUp, DoubleCartPoleSwingUp)


def _register() -> None:
    for task in TASKS:
        name = f"dynapilco/{task.__name__}-v0"
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point=f"{task.__module__}:{task.__name__}Env",
                vector_entry_point=f"{task.__module__}:{task.__name__}VectorEnv",
                max_episode_steps=task.horizon,
            )


_register()
