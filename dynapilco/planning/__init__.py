"""Acting by planning: at every step, search a sequence of actions in the model and take its first."""

from dynapilco.planning.config import PLANNERS, PlanningConfig
from dynapilco.planning.planner import Planner, Plans

__all__ = ["PLANNERS", "Planner", "PlanningConfig", "Plans"]
