"""Evidence: the marginal likelihood of a wide network, and what it says about relevances, scales and noise."""

from dynapilco.inference.evidence.design import LastLayer, solve
from dynapilco.inference.evidence.kernel import WideKernel, wide_kernel
from dynapilco.inference.evidence.marginal import negative_log_evidence

__all__ = ["LastLayer", "WideKernel", "negative_log_evidence", "solve", "wide_kernel"]
