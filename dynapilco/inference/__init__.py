"""Bayes for any ``nn.Module``: targets, likelihoods, priors, draws, and one file for each inference method."""

from dynapilco.inference import methods
from dynapilco.inference.draws import DenseDraw, Draw, ModuleDraw
from dynapilco.inference.fitting import Fit, FitReport, fit
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    Joint,
    Likelihood,
    Poisson,
    StudentT,
    make_likelihood,
    register_likelihood,
)
from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import (
    METHODS,
    Clock,
    InferenceMethod,
    Metrics,
    State,
    make_method,
    register_inference,
)
from dynapilco.inference.methods.ensemble import Ensemble
from dynapilco.inference.methods.mc_dropout import MCDropout
from dynapilco.inference.module import BayesianModule
from dynapilco.inference.network import StackedNetwork, mlp
from dynapilco.inference.posteriors import POSTERIORS, Posterior, register_posterior
from dynapilco.inference.predictive import ClassPredictive, Predictive
from dynapilco.inference.priors import (
    PRIORS,
    ElementwisePrior,
    FanInNormal,
    HorseshoePrior,
    LaplacePrior,
    NormalPrior,
    PerLayer,
    Prior,
    ScaleMixture,
    StudentTPrior,
    TorchPrior,
    make_prior,
    register_prior,
)
from dynapilco.inference.resumable import DivergenceError
from dynapilco.inference.stack import DenseStack
from dynapilco.inference.target import Batch, BayesianModel, Target

__all__ = [
    "LIKELIHOODS",
    "METHODS",
    "POSTERIORS",
    "PRIORS",
    "Batch",
    "BayesianModel",
    "BayesianModule",
    "Bernoulli",
    "Categorical",
    "ClassPredictive",
    "Clock",
    "DenseDraw",
    "DenseStack",
    "DivergenceError",
    "Draw",
    "ElementwisePrior",
    "Ensemble",
    "FanInNormal",
    "Fit",
    "FitReport",
    "Gaussian",
    "HeteroscedasticGaussian",
    "HorseshoePrior",
    "InferenceMethod",
    "Joint",
    "LaplacePrior",
    "Likelihood",
    "LossMethod",
    "MCDropout",
    "Metrics",
    "ModuleDraw",
    "NormalPrior",
    "ParameterLayout",
    "PerLayer",
    "Poisson",
    "Posterior",
    "Predictive",
    "Prior",
    "ScaleMixture",
    "StackedNetwork",
    "State",
    "StudentT",
    "StudentTPrior",
    "Target",
    "TorchPrior",
    "fit",
    "make_likelihood",
    "make_method",
    "make_prior",
    "methods",
    "mlp",
    "register_inference",
    "register_likelihood",
    "register_posterior",
    "register_prior",
]
