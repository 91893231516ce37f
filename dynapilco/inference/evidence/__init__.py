"""Evidence: the marginal likelihood of a wide network, and what it says about relevances, scales and noise."""

from dynapilco.inference.evidence.hyper import NAMES, gradients, hyper_of, initial_hyper
from dynapilco.inference.evidence.kernel import WideKernel, wide_kernel
from dynapilco.inference.evidence.last_layer import LastLayer, refusal, solve
from dynapilco.inference.evidence.marginal import negative_log_evidence
from dynapilco.inference.evidence.members import group_of, solved_members
from dynapilco.inference.evidence.objective import Hyper, first_modes, sampled_kernels
from dynapilco.inference.evidence.rows import Rows

__all__ = [
    "NAMES",
    "Hyper",
    "LastLayer",
    "Rows",
    "WideKernel",
    "first_modes",
    "gradients",
    "group_of",
    "hyper_of",
    "initial_hyper",
    "negative_log_evidence",
    "refusal",
    "sampled_kernels",
    "solve",
    "solved_members",
    "wide_kernel",
]
