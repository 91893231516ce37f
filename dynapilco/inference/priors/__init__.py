"""Prior distributions over weights: one family a file."""

from dynapilco.inference.priors.base import PRIORS, Prior, make_prior, register_prior
from dynapilco.inference.priors.normal import FanInNormal, NormalPrior

__all__ = ["PRIORS", "FanInNormal", "NormalPrior", "Prior", "make_prior", "register_prior"]
