"""Agents that learn in a fraction of a second."""

import pytest

from dynapilco import DynaPILCO

CART = "dynapilco/CartPoleSwingUp-v0"
STEPS = 60


def build(env=CART, policy="mlp", seed=0, **changes):
    settings = {
        "inference_kwargs": {"members": 2, "cold_steps": 30, "warm_steps": 20},
        "policy_kwargs": {"hidden": [8]} if policy == "mlp" else {},
        "search": {"steps": 10, "screening_steps": 5, "fresh_starts": 1},
        "rollout": {"total_particles": 8},
        "dynamics": {"hidden": (12,)},
        "device": "cpu",
    }
    sections = {k: {**settings.get(k, {}), **v} for k, v in changes.items() if k in ("search", "rollout", "dynamics")}
    return DynaPILCO(policy, env, seed=seed, **{**settings, **changes, **sections})


@pytest.fixture
def make():
    """Build a tiny agent: ``make(env, policy, seed, **settings)``."""
    return build


@pytest.fixture(scope="session")
def trained():
    """An agent after three trials, saved once; never to be changed."""
    return build().learn(3 * STEPS)
