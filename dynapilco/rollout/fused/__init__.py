"""The compiled CPU engine of rollouts: frozen dense dynamics under a dense policy and its adjoint, in C++."""

from dynapilco.rollout.fused.engine import (
    SegmentPlan,
    available,
    check_choice,
    fused_segment,
    supports,
    unavailable_reason,
)

__all__ = ["SegmentPlan", "available", "check_choice", "fused_segment", "supports", "unavailable_reason"]
