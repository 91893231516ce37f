"""A model-free algorithm of stable-baselines3 on a task: trained, recorded and judged as an agent of ours is.

The same as in ``dynapilco train`` are the environment and its options, the reset seed of each trial, the columns of
``progress.csv``, the 20 fresh episodes, their seeds and the rule of success. All else is the algorithm's own, with
stable-baselines3's defaults. Box actions are scaled to [-1, 1] for it, as stable-baselines3 advises.
"""

from __future__ import annotations

import inspect
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import safetensors.torch
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from dynapilco.agent.episode import Controller
from dynapilco.agent.evaluation import evaluate
from dynapilco.compare.algorithms import algorithm_class
from dynapilco.compare.recorder import Recorder
from dynapilco.core.atomic import write_atomically
from dynapilco.tasks import ActionCodec, make_env, task_of
from dynapilco.tracking.files import progress_csv
from dynapilco.tracking.run_dir import PROGRESS_FILE
from dynapilco.tracking.sink import TrialRow
from dynapilco.tracking.summary import build_summary, versions, write_summary

EPISODES = 20
"""As many as ``dynapilco train`` ends with."""
WRITE_SECONDS = 1.0
CONFIG_FILE, POLICY_FILE = "config.json", "policy.safetensors"


@dataclass(frozen=True)
class BaselineRun:
    """One run of a baseline.

    Attributes
    ----------
    name : str
        As it stands in the tables, e.g. ``sac@100x``.
    algorithm : str
    options : dict
        Of its constructor.
    env_id : str
    env_kwargs : dict
    total_timesteps : int
        Environment steps.
    run_dir : Path
    seed : int
    """

    name: str
    algorithm: str
    options: dict[str, Any]
    env_id: str
    env_kwargs: dict[str, Any]
    total_timesteps: int
    run_dir: Path
    seed: int


class _StopAt(BaseCallback):
    """Ends the learning of an on-policy algorithm, which collects whole rollouts, at its budget."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.last = steps

    def _on_step(self) -> bool:
        return self.num_timesteps < self.last


def train_baseline(run: BaselineRun) -> None:
    """Train from the beginning, evaluate, and write a run directory.

    A run that was interrupted begins anew, and is then the run that it would have been: stable-baselines3 cannot go on
    exactly where it stopped (its generators, and the environment in the middle of an episode, are not saved).
    """
    began = time.monotonic()
    torch.set_num_threads(1)
    inner = make_env(run.env_id, run.env_kwargs)
    task, options = task_of(inner), _options(run, inner)
    log = _Progress(run.run_dir)
    env: gymnasium.Env = Recorder(inner, task, run.seed, options.get("learning_starts", 0), log.add)
    if isinstance(inner.action_space, spaces.Box):
        env = gymnasium.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    _write_config(run, options)
    model = algorithm_class(run.algorithm)("MlpPolicy", env, seed=run.seed, device="cpu", **options)  # pyright: ignore
    model.learn(run.total_timesteps, callback=_stop(model, run.total_timesteps))
    log.write()
    judged = make_env(run.env_id, run.env_kwargs)
    result = evaluate(judged, task, _controller(model, env), run.seed, EPISODES)
    weights = {name: value.contiguous() for name, value in model.policy.state_dict().items()}
    write_atomically(run.run_dir / POLICY_FILE, safetensors.torch.save(weights))
    summary = build_summary(
        {"env_id": run.env_id, "inference": run.name, "seed": run.seed},
        log.rows,
        result.returns,
        result.successes,
        delivered_trial=None,
        wall_seconds=time.monotonic() - began,
        engine="stable-baselines3",
    )
    write_summary(run.run_dir, summary)
    share = "" if result.success_rate is None else f", {result.success_rate:.0%} successes"
    print(f"{run.name}: mean return {np.mean(result.returns):.2f} in {EPISODES} fresh episodes{share}")


def _options(run: BaselineRun, env: gymnasium.Env) -> dict[str, Any]:
    """The options, with the defaults that matter here written out.

    An algorithm whose first rollout (on-policy), or whose random steps before the first update (off-policy), are as
    long as the whole budget would never learn: they get the length of a trial, the latter at most half of the budget.
    """
    cls, options = algorithm_class(run.algorithm), dict(run.options)
    defaults = inspect.signature(cls.__init__).parameters
    name = "n_steps" if issubclass(cls, OnPolicyAlgorithm) else "learning_starts"
    options.setdefault(name, defaults[name].default)
    if name == "n_steps" and name not in run.options and options[name] > run.total_timesteps:
        options[name] = task_of(env).horizon
        if "batch_size" in defaults:  # PPO's minibatch, which cannot be larger
            options.setdefault("batch_size", min(defaults["batch_size"].default, options[name]))
    if name == "learning_starts" and name not in run.options and options[name] >= run.total_timesteps:
        options[name] = min(task_of(env).horizon, run.total_timesteps // 2)
    return options


def _write_config(run: BaselineRun, options: dict[str, Any]) -> None:
    settings = {name: value for name, value in asdict(run).items() if name != "run_dir"}
    text = json.dumps({**settings, "options": options, "versions": versions()}, indent=1)
    write_atomically(run.run_dir / CONFIG_FILE, text + "\n")


def _stop(model: BaseAlgorithm, steps: int) -> BaseCallback | None:
    """Only where the last rollout would go past the budget; otherwise the last update would be lost."""
    if isinstance(model, OnPolicyAlgorithm) and steps % model.n_steps:
        return _StopAt(steps)
    return None


def _controller(model: BaseAlgorithm, env: gymnasium.Env) -> Controller:
    """The deterministic policy as an agent's controller: flat observation (D + learned,) -> action vector (M,)."""
    seen, inner = env.observation_space, env
    assert isinstance(seen, spaces.Box)
    if isinstance(env, gymnasium.wrappers.RescaleAction):
        inner = env.env
    codec = ActionCodec.of(inner.action_space)
    size = int(np.prod(seen.shape))

    def control(observation: np.ndarray, _: int) -> np.ndarray:
        action = model.predict(observation[:size].reshape(seen.shape).astype(seen.dtype), deterministic=True)[0]
        if isinstance(env, gymnasium.wrappers.RescaleAction):
            action = env.action(action)
        return codec.encode(action)

    return control


class _Progress:
    """The trials so far, and ``progress.csv``: written anew after an episode, at most once a second."""

    def __init__(self, run_dir: Path) -> None:
        self.path, self.rows, self._written = run_dir / PROGRESS_FILE, list[TrialRow](), 0.0

    def add(self, row: TrialRow) -> None:
        self.rows.append(row)
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        write_atomically(self.path, progress_csv(self.rows))
        self._written = time.monotonic()
