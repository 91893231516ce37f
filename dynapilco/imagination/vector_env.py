"""``LearnedVectorEnv``: the learned model behind Gymnasium's vector interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.core.seeding import torch_generator
from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.imagination.cloud import Cloud
from dynapilco.rollout import StartSampler
from dynapilco.tasks import Task


class LearnedVectorEnv(VectorEnv):
    """N imagined episodes of a task, each under a function of its own.

    Observations, actions, rewards and ends are those of the real environment; rewards and ends are known or learned as
    the task says. An episode that ended, or lasted ``horizon`` steps (truncated), starts anew in the same step
    (``AutoresetMode.SAME_STEP``); its last observation is in the info under "final_obs". Observations lie inside the
    bounds of the real ones, and have sensor noise where the model says that there is any. States that are not finite
    end an episode as truncated, with reward 0, and are counted in ``bad``.

    Parameters
    ----------
    task : Task
    draw : DynamicsDraw
        S functions; environment i follows function i mod S.
    observation_space : gymnasium.spaces.Box
        Of the real environment; observations take its shape and kind of number.
    num_envs : int
        N.
    horizon : int, optional
        Steps of an imagined episode; a whole trial by default. Short ones branch off their starts, as in MBPO.
    starts : callable, optional
        ``starts(shape, generator)`` -> states (*shape, D); those of real episodes by default.
    follow : str
        ``"draw"`` (an environment keeps its function) or ``"step"`` (functions are dealt anew at every step).
    seed : int
        Of starts, noise and dealing, until ``reset(seed=...)``.
    bounds : tuple of Tensor, optional
        (lowest, highest) states, (D,) each: what leaves them is put back to their edge. None: states go anywhere.

    Raises
    ------
    UserError
        For sizes below 1 and an unknown ``follow``.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        draw: DynamicsDraw,
        observation_space: spaces.Box,
        num_envs: int = 1,
        horizon: int | None = None,
        starts: StartSampler | None = None,
        follow: str = "draw",
        seed: int = 0,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("horizon", task.horizon if horizon is None else horizon)):
            if not isinstance(value, int | np.integer) or value < 1:
                raise UserError(f"{name}={value!r}: expected a whole number of at least 1")
        self.task, self.num_envs, self.horizon = task, int(num_envs), int(horizon or task.horizon)
        self.bounds = bounds
        self.starts = starts or task.sample_start
        self.single_observation_space, self.single_action_space = observation_space, task.codec.space
        self.observation_space = batch_space(observation_space, self.num_envs)
        self.action_space = batch_space(task.codec.space, self.num_envs)
        self.device = draw.stepping.transition.device
        self.generator = torch_generator(seed, "imagination", device=self.device)
        self.cloud = Cloud(draw, self.num_envs, follow, self.generator)
        self.size = int(np.prod(observation_space.shape))
        self._bounded = bool(np.isfinite(observation_space.low).any() or np.isfinite(observation_space.high).any())
        self.states = self._begin(self.num_envs)
        self.steps = np.zeros(self.num_envs, np.int64)
        self.bad = 0

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New starts everywhere; a seed (the first of a list) seeds all of them together."""
        if isinstance(seed, list):
            seed = next((s for s in seed if s is not None), None)
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.generator.manual_seed(torch_generator(int(seed), "imagination").initial_seed())
        self.states, self.steps = self._begin(self.num_envs), np.zeros(self.num_envs, np.int64)
        return self._observations(self.states), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One imagined step of all; see ``gymnasium.vector.VectorEnv.step``."""
        vectors = torch.as_tensor(self._vectors(actions), dtype=torch.float32, device=self.device)
        rewards, ended, cut, after = self._move(vectors)
        done = ended | cut
        info: dict[str, Any] = {}
        if done.any():
            final = np.full(self.num_envs, None, dtype=object)
            for i, row in zip(np.flatnonzero(done), self._observations(after[torch.as_tensor(done)]), strict=True):
                final[i] = row
            info = {"final_obs": final, "_final_obs": done.copy(), "final_info": {}, "_final_info": done.copy()}
            after = after.clone()
            after[torch.as_tensor(done)] = self._begin(int(done.sum()))
            self.steps[done] = 0
        self.states = after
        return self._observations(after), rewards, ended, cut, info

    def _move(self, vectors: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tensor]:
        """Rewards, ends and truncations (N,), and the next states, all finite."""
        after = self.cloud.step(self.states, vectors)
        if self.bounds is not None:
            after = after.clamp(*self.bounds)
        rewards = self.task.reward(self.states, vectors, after, torch)
        ended = torch.zeros_like(rewards, dtype=torch.bool)
        if self.task.ends:
            ended = self.task.ended(self.states, vectors, after, torch)
        self.steps += 1
        stopped = self.steps >= self.horizon
        if not bool(torch.isfinite(after.sum() + rewards.sum())):  # a sum is cheap; it may also have overflowed
            lost = ~(torch.isfinite(after).all(-1) & torch.isfinite(rewards))
            self.bad += int(lost.sum())
            after = torch.where(lost.unsqueeze(-1), self.states, after)
            rewards, ended = torch.where(lost, 0.0, rewards), ended & ~lost
            stopped |= lost.cpu().numpy()
        ends = ended.cpu().numpy()
        return rewards.cpu().numpy(), ends, stopped & ~ends, after

    def _begin(self, count: int) -> Tensor:
        return self.starts((count,), self.generator)

    def _vectors(self, actions: Any) -> np.ndarray:
        codec = self.task.codec
        vectors = codec.encode_all(actions)
        return vectors if codec.choices else codec.canonical(vectors)

    def _observations(self, states: Tensor) -> np.ndarray:
        """What is seen of states (N, D), (N, *shape): with sensor noise, inside the bounds of the real observations."""
        space = self.single_observation_space
        assert isinstance(space, spaces.Box)
        observed = self.task.observed(self.cloud.observed(states), torch)
        flat = observed[:, : self.size].cpu().numpy().astype(space.dtype)  # a copy
        seen = flat.reshape(len(flat), *space.shape)
        return np.clip(seen, space.low, space.high, out=seen) if self._bounded else seen
