"""Bayes for any ``nn.Module``: targets, likelihoods, priors, draws, and one file for each inference method."""

from dynapilco.inference.draws import DenseDraw, Draw, ModuleDraw
from dynapilco.inference.ensemble import Ensemble
from dynapilco.inference.likelihoods import Gaussian
from dynapilco.inference.mc_dropout import MCDropout
from dynapilco.inference.method import (
    METHODS,
    FitReport,
    InferenceMethod,
    State,
    fit,
    make_method,
    register_inference,
)
from dynapilco.inference.network import ParameterLayout, StackedNetwork, mlp
from dynapilco.inference.priors import FanInNormal
from dynapilco.inference.stack import DenseStack
from dynapilco.inference.target import BayesianModel, Target

__all__ = [
    "METHODS",
    "BayesianModel",
    "DenseDraw",
    "DenseStack",
    "Draw",
    "Ensemble",
    "FanInNormal",
    "FitReport",
    "Gaussian",
    "InferenceMethod",
    "MCDropout",
    "ModuleDraw",
    "ParameterLayout",
    "StackedNetwork",
    "State",
    "Target",
    "fit",
    "make_method",
    "mlp",
    "register_inference",
]
