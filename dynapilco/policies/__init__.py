"""Controllers: what is optimised, and what acts."""

from dynapilco.policies.base import POLICIES, Policy, check_options, make_policy
from dynapilco.policies.dense import LinearPolicy, MlpPolicy
from dynapilco.policies.rbf import RbfPolicy

__all__ = ["POLICIES", "LinearPolicy", "MlpPolicy", "Policy", "RbfPolicy", "check_options", "make_policy"]
