"""Values of the arguments of stable-baselines3's algorithms: what they would take without a word, or choke on later."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from dynapilco.core.errors import UserError

WHOLE = ("batch_size", "buffer_size", "n_steps", "n_epochs", "target_update_interval", "policy_delay")
SHARES = ("tau", "gamma", "gae_lambda", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
POSITIVE = ("learning_rate", "clip_range", "clip_range_vf", "max_grad_norm", "rms_prop_eps", "target_kl")
NOT_NEGATIVE = ("vf_coef", "target_policy_noise", "target_noise_clip")
SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf")
"""May be a function of the progress that remains, from Python."""
MAY_BE_NONE = ("clip_range_vf", "target_kl", "policy_kwargs")
SWITCHES = ("normalize_advantage", "use_rms_prop")


def check_value(algorithm: str, name: str, value: Any) -> None:
    """Refuse a value that an argument cannot have; arguments that are not listed here are left to the algorithm.

    Raises
    ------
    UserError
        Naming the argument, the value and what is expected.
    """
    if (value is None and name in MAY_BE_NONE) or (name in SCHEDULES and callable(value)):
        return
    expected = _expected(name, value)
    if expected is not None:
        raise UserError(f"controller_kwargs.{name}={value!r}: {algorithm} expected {expected}")


def _expected(name: str, value: Any) -> str | None:
    """What a value is not; None where it is."""
    if name in WHOLE:
        good = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
        return None if good else "a whole number of at least 1"
    if name in SHARES:
        return None if _is_number(value) and 0 <= value <= 1 else "a number from 0 to 1"
    if name in POSITIVE:
        return None if _is_number(value) and 0 < value < math.inf else "a finite number above 0"
    if name in NOT_NEGATIVE or (name == "ent_coef" and not isinstance(value, str)):
        return None if _is_number(value) and 0 <= value < math.inf else "a finite number of 0 or more"
    if name in SWITCHES:
        return None if isinstance(value, bool) else "true or false"
    if name == "policy_kwargs":
        return None if isinstance(value, dict) else "a table"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
