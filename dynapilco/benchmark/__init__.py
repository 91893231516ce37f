"""What this machine gives: a policy-gradient step beside its floor, a model fit beside its reference path."""

from dynapilco.benchmark.gradient_step import PEER_CASES, STEP_CASES, StepCase, make_step, time_step
from dynapilco.benchmark.model_fit import FitTimes, time_fit
from dynapilco.benchmark.particles import Ceilings, ParticleRates, measure_ceilings, particle_rates
from dynapilco.benchmark.peer import Peer, check_checkout, open_peers, take_turns

__all__ = [
    "PEER_CASES",
    "STEP_CASES",
    "Ceilings",
    "FitTimes",
    "ParticleRates",
    "Peer",
    "StepCase",
    "check_checkout",
    "make_step",
    "measure_ceilings",
    "open_peers",
    "particle_rates",
    "take_turns",
    "time_fit",
    "time_step",
]
