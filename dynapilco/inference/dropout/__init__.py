"""Dropout as a distribution over the weights of any module: where units are dropped, and by which masks."""

from dynapilco.inference.dropout.base import DropoutMethod
from dynapilco.inference.dropout.masks import bernoulli_masks, concrete_masks
from dynapilco.inference.dropout.penalty import cross_entropy, entropy
from dynapilco.inference.dropout.sites import DropoutSites, Site, find_sites

__all__ = [
    "DropoutMethod",
    "DropoutSites",
    "Site",
    "bernoulli_masks",
    "concrete_masks",
    "cross_entropy",
    "entropy",
    "find_sites",
]
