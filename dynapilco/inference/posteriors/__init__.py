"""Variational posteriors over the weights, and their divergence from a prior."""

from dynapilco.inference.posteriors.base import (
    POSTERIORS,
    Posterior,
    Variational,
    make_posterior,
    register_posterior,
)
from dynapilco.inference.posteriors.full_rank import FullNormal
from dynapilco.inference.posteriors.kl import GaussianPrior, closed_form, kl_divergence, monte_carlo_kl, register_kl
from dynapilco.inference.posteriors.low_rank import LowRankNormal
from dynapilco.inference.posteriors.normal import Normal
from dynapilco.inference.posteriors.student_t import StudentT

__all__ = [
    "POSTERIORS",
    "FullNormal",
    "GaussianPrior",
    "LowRankNormal",
    "Normal",
    "Posterior",
    "StudentT",
    "Variational",
    "closed_form",
    "kl_divergence",
    "make_posterior",
    "monte_carlo_kl",
    "register_kl",
    "register_posterior",
]
