"""How variational inference samples the expected log-likelihood while it trains."""

from dynapilco.inference.estimators.base import Estimator, reparameterised, repeat
from dynapilco.inference.estimators.row_noise import flipout, local

ESTIMATORS: dict[str, Estimator] = {"reparameterised": reparameterised, "local": local, "flipout": flipout}

__all__ = ["ESTIMATORS", "Estimator", "flipout", "local", "reparameterised", "repeat"]
