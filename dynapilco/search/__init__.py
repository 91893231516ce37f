"""Improving a policy inside the learned model."""

from dynapilco.search.config import SearchConfig
from dynapilco.search.pathwise import Imagination, PathwiseSearch, SearchReport, only_finite, predicted_returns

__all__ = ["Imagination", "PathwiseSearch", "SearchConfig", "SearchReport", "only_finite", "predicted_returns"]
