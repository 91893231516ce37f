"""What the Markov-chain methods share: gradients, the search for a start, adaptation, and the samples they keep."""

from dynapilco.inference.chains.gradient import PotentialFunction, make_potential
from dynapilco.inference.chains.method import ChainMethod
from dynapilco.inference.chains.samples import chain_functions
from dynapilco.inference.chains.schedule import Schedule

__all__ = ["ChainMethod", "PotentialFunction", "Schedule", "chain_functions", "make_potential"]
