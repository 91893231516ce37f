"""Prior distributions over weights: one family a file."""

from dynapilco.inference.priors.base import PRIORS, Prior, make_prior, register_prior
from dynapilco.inference.priors.elementwise import ElementwisePrior
from dynapilco.inference.priors.horseshoe import HorseshoePrior
from dynapilco.inference.priors.laplace import LaplacePrior
from dynapilco.inference.priors.normal import FanInNormal, NormalPrior
from dynapilco.inference.priors.per_layer import PerLayer
from dynapilco.inference.priors.scale_mixture import ScaleMixture
from dynapilco.inference.priors.student_t import StudentTPrior
from dynapilco.inference.priors.torch_prior import TorchPrior

__all__ = [
    "PRIORS",
    "ElementwisePrior",
    "FanInNormal",
    "HorseshoePrior",
    "LaplacePrior",
    "NormalPrior",
    "PerLayer",
    "Prior",
    "ScaleMixture",
    "StudentTPrior",
    "TorchPrior",
    "make_prior",
    "register_prior",
]
