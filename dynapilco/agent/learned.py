"""Learned models of saved runs as registered environments: ``dynapilco/Learned-v0``."""

from __future__ import annotations

from typing import Any

from dynapilco.core.errors import UserError
from dynapilco.imagination import LearnedEnv, LearnedVectorEnv


def learned_vector_env(
    num_envs: int = 1, *, run_dir: Any = None, device: str = "auto", **options: Any
) -> LearnedVectorEnv:
    """The newest model of a saved run, as ``gymnasium.make_vec("dynapilco/Learned-v0", run_dir=...)`` makes it.

    Parameters
    ----------
    num_envs : int
    run_dir : path-like
        A run directory, its ``checkpoint/``, or a saved agent.
    device : str
    **options
        ``horizon``, ``starts``, ``follow``, ``draws`` of ``DynaPILCO.imagine``.

    Raises
    ------
    UserError
        Without ``run_dir``, for a run that has no model yet, and for what ``DynaPILCO.imagine`` refuses.
    """
    if run_dir is None:
        raise UserError("run_dir=None: expected the folder of a run: make_vec('dynapilco/Learned-v0', run_dir=...)")
    from dynapilco.agent.algorithm import DynaPILCO

    return DynaPILCO.load(run_dir, device=device).imagine(num_envs, **options)


def learned_env(*, run_dir: Any = None, device: str = "auto", **options: Any) -> LearnedEnv:
    """One imagined episode at a time, as ``gymnasium.make("dynapilco/Learned-v0", run_dir=...)`` makes it."""
    return LearnedEnv(learned_vector_env(1, run_dir=run_dir, device=device, **options))
