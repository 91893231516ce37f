"""Ways to act on a model: a policy searched in it, or a planner."""

from dynapilco.agent.control.auto import choose, pays_for_life
from dynapilco.agent.control.base import Control, Prediction, Ready
from dynapilco.agent.control.make import make_control

__all__ = ["Control", "Prediction", "Ready", "choose", "make_control", "pays_for_life"]
