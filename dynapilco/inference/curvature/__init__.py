"""Curvature of a potential at its minimum: generalised Gauss-Newton matrices, whole or approximated."""

from dynapilco.inference.curvature.ggn import LocalModel, jacobian, likelihood_roots, local_models, prior_precision
from dynapilco.inference.curvature.plan import Plan, make_plan
from dynapilco.inference.curvature.structure import Structure

__all__ = [
    "LocalModel",
    "Plan",
    "Structure",
    "jacobian",
    "likelihood_roots",
    "local_models",
    "make_plan",
    "prior_precision",
]
