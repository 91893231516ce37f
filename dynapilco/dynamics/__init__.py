"""Transitions, encodings, the Bayesian dynamics model and its calibration."""

from dynapilco.dynamics.config import DynamicsConfig
from dynapilco.dynamics.encoding import Geometry, Normaliser, Stepping, make_stepping
from dynapilco.dynamics.model import DynamicsDraw, DynamicsModel
from dynapilco.dynamics.transitions import Transitions

__all__ = [
    "DynamicsConfig",
    "DynamicsDraw",
    "DynamicsModel",
    "Geometry",
    "Normaliser",
    "Stepping",
    "Transitions",
    "make_stepping",
]
