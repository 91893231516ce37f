"""What this machine gives: a policy-gradient step beside its floor, a model fit beside its reference path."""

from dynapilco.benchmark.gradient_step import STEP_CASES, StepCase, time_step
from dynapilco.benchmark.model_fit import FitTimes, time_fit
from dynapilco.benchmark.particles import Ceilings, ParticleRates, measure_ceilings, particle_rates

__all__ = [
    "STEP_CASES",
    "Ceilings",
    "FitTimes",
    "ParticleRates",
    "StepCase",
    "measure_ceilings",
    "particle_rates",
    "time_fit",
    "time_step",
]
