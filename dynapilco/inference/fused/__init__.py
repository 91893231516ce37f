"""The compiled CPU kernel of stacked multilayer perceptrons: values and gradients of S weight sets, in C++."""

from dynapilco.inference.fused.engine import Saved, backward, dense_apply, forward, supports
from dynapilco.inference.fused.load import available, unavailable_reason

__all__ = ["Saved", "available", "backward", "dense_apply", "forward", "supports", "unavailable_reason"]
