"""What is timed: the policy search of the cart-pole on a model that was fitted briefly to made-up transitions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from dynapilco.core.seeding import torch_generator
from dynapilco.dynamics import DynamicsConfig, DynamicsModel, Transitions
from dynapilco.inference import make_method
from dynapilco.policies import make_policy
from dynapilco.search import Imagination, PathwiseSearch, SearchConfig
from dynapilco.tasks import make_env, task_of

ENV_ID = "dynapilco/CartPoleSwingUp-v0"


def made_up(rows: int, device: torch.device) -> Transitions:
    """Transitions of no system in particular."""
    generator = torch_generator(0, "benchmark")
    states = torch.randn(rows, 4, generator=generator)
    actions = torch.randn(rows, 1, generator=generator)
    moved = states + 0.1 * torch.tanh(states @ torch.randn(4, 4, generator=generator) + actions)
    return Transitions(states, actions, moved, torch.zeros(rows), torch.zeros(rows, dtype=torch.int64)).to(device)


def make_model(
    inference: str, kwargs: dict[str, Any], config: DynamicsConfig, device: torch.device, env_id: str = ENV_ID
) -> DynamicsModel:
    """A dynamics model of the cart-pole, not fitted."""
    return DynamicsModel(task_of(make_env(env_id)).geometry, config, make_method(inference, kwargs), device)


def make_search(
    draws: int, particles: int, horizon: int, hidden: tuple[int, ...], policy: tuple[int, ...], engine: str,
    device: torch.device,
) -> PathwiseSearch:  # fmt: skip
    """A search with one candidate, about to begin: ensemble of ``draws`` networks, ``particles`` for each.

    ``engine`` is one of the simulator's, or ``"graph"``: that of torch, recorded as a CUDA graph.
    """
    task = replace(task_of(make_env(ENV_ID)), horizon=horizon)
    config = DynamicsConfig(hidden=hidden, targets="velocity")
    model = make_model("ensemble", {"members": draws, "cold_steps": 20}, config, device)
    generator = torch_generator(0, "search", device=device)
    model.fit(made_up(60, device), generator)
    low, high = (torch.as_tensor(bound, device=device) for bound in (task.low, task.high))
    scale = torch.ones(task.geometry.states, device=device)
    acting = make_policy("MlpPolicy", {"hidden": list(policy)}, task.geometry, low, high, scale)
    simulator = "torch" if engine == "graph" else engine
    imagination = Imagination(task, lambda g: model.draw(draws, g), particles, False, simulator)
    settings = SearchConfig(redraw_every=10**9, graphs=engine != "torch")
    search = PathwiseSearch(acting, imagination, settings, generator)
    search.begin(None, fresh=1)
    return search
