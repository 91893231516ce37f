"""Observation models: one file each."""

from dynapilco.inference.likelihoods.base import LIKELIHOODS, Likelihood, make_likelihood, register_likelihood
from dynapilco.inference.likelihoods.bernoulli import Bernoulli
from dynapilco.inference.likelihoods.blocks import BlockDistribution
from dynapilco.inference.likelihoods.categorical import Categorical
from dynapilco.inference.likelihoods.gaussian import Gaussian
from dynapilco.inference.likelihoods.heteroscedastic import HeteroscedasticGaussian
from dynapilco.inference.likelihoods.joint import Joint
from dynapilco.inference.likelihoods.poisson import Poisson
from dynapilco.inference.likelihoods.student_t import StudentT

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "BlockDistribution",
    "Categorical",
    "Gaussian",
    "HeteroscedasticGaussian",
    "Joint",
    "Likelihood",
    "Poisson",
    "StudentT",
    "make_likelihood",
    "register_likelihood",
]
