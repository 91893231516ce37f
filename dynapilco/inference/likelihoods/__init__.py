"""Observation models: one file each."""

from dynapilco.inference.likelihoods.base import LIKELIHOODS, Likelihood, make_likelihood, register_likelihood
from dynapilco.inference.likelihoods.gaussian import Gaussian

__all__ = ["LIKELIHOODS", "Gaussian", "Likelihood", "make_likelihood", "register_likelihood"]
