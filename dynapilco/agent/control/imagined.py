"""An agent of stable-baselines3, trained on imagined transitions, as what acts.

Off-policy algorithms learn from short rollouts that branch off visited states, with a share of real transitions in
every batch (Janner et al. 2019, "When to trust your model: model-based policy optimization", algorithm 2; Sutton 1990,
Dyna); on-policy ones from whole imagined episodes. What the agent has learned goes on from trial to trial; imagined
transitions are made afresh by the newest model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor

from dynapilco.agent.context import Context
from dynapilco.agent.control.base import Control, Prediction, Ready
from dynapilco.agent.episode import Controller
from dynapilco.core.isolation import PrivateRandomness
from dynapilco.core.seeding import derive
from dynapilco.imagination.cloud import Cloud
from dynapilco.imagination.config import OFF_POLICY
from dynapilco.imagination.learner import build_agent, check_actions, from_state, rehearse, to_state, train
from dynapilco.imagination.replay import MixedReplayBuffer, RealTransitions
from dynapilco.imagination.sb3 import LearnedVecEnv
from dynapilco.imagination.spaces import NoEnv, learning_task, observed_space
from dynapilco.imagination.vector_env import LearnedVectorEnv
from dynapilco.tracking.sink import TrialRow

NOISY = ("td3", "ddpg")
"""Algorithms whose policy has no randomness of its own."""
LARGEST_BUFFER = 1_000_000


class ImaginedControl(Control):
    """Trains an agent in the newest model before every trial, and lets it act.

    Parameters
    ----------
    context : Context
    name : str
        Of the algorithm.

    Raises
    ------
    UserError
        For an action space or options that the algorithm does not take.
    """

    def __init__(self, context: Context, name: str) -> None:
        super().__init__(context)
        check_actions(name, context.task.codec.space)
        self.name, self.task = name, learning_task(context.task)
        self.config, self.trained = context.config.imagination, context.state.control
        self.lost = 0
        if not self.trained:  # options are found wrong now, not after the first trial
            with self._private("rehearsal").used():
                rehearse(name, self.task, context.device, context.config.controller_kwargs)

    def prepare(self) -> Ready:
        """Train, and imagine the trial of what came out."""
        context, private = self.context, self._private("agent")
        env = self._imagined()
        with private.used():
            agent = self._agent(env)
            bad = self._train(agent)
        self.trained = to_state(agent)
        if bad:
            context.say(
                f"trial {context.state.trials}: {self.name} had numbers that are not finite {bad} times and went back "
                "to its last good state; a smaller learning rate may help"
            )
        acts = self._behaviour(agent, "trial", self.config.explore)
        self.lost = 0
        prediction, predicted = self.predict_trial(acts)
        controller = _single(acts)
        return Ready(controller, None, prediction, predicted, lambda: bad + env.bad + self.lost)

    def keep(self, ready: Ready, row: TrialRow) -> None:
        """The agent goes on from here in the next trial."""
        self.context.state.control = self.trained

    def acting(self, purpose: str) -> Controller:
        """The newest policy without exploration; an untrained one before the first model."""
        return _single(self._behaviour(self._acting_agent(), purpose, explore=False))

    def vectors(self) -> Callable[[Tensor], Tensor]:
        """The same, batched."""
        acts, device = self._behaviour(self._acting_agent(), "predict", explore=False), self.context.device
        return lambda states: torch.as_tensor(acts(states.cpu().numpy()), device=device)

    @torch.no_grad()
    def predict_trial(self, acts: Callable[[np.ndarray], np.ndarray]) -> tuple[Prediction, float]:
        """Imagine the coming trial as the agent's training does, seen by an observer; and its mean return.

        Episodes go on after an end, as those of policy search do, but earn nothing.
        """
        context, task = self.context, self.task
        generator = context.generator("prediction")
        count = context.config.rollout.total_particles
        draw = context.sampler(self._draws(count))(generator)
        cloud, bounds = Cloud(draw, count, self.config.follow, generator), self._bounds()
        x = task.sample_start((count,), generator)
        alive, total, seen = torch.ones_like(x[:, 0]), torch.zeros_like(x[:, 0]), [x]
        for _ in range(task.horizon):
            vectors = torch.as_tensor(acts(seen[-1].cpu().numpy()), device=x.device)
            after = cloud.step(x, vectors).clamp(*bounds)
            reward = task.reward(x, vectors, after, torch)
            lost = ~(torch.isfinite(after).all(-1) & torch.isfinite(reward)) & (alive > 0)
            self.lost += int(lost.sum())
            after = torch.where(torch.isfinite(after), after, x)
            total += torch.where((alive > 0) & ~lost, reward, 0.0)
            alive = alive * ~lost  # as an imagined episode that is cut there
            if task.ends:
                alive = alive * ~task.ended(x, vectors, after, torch)
            x = after
            seen.append(cloud.observed(x))
        particles = task.geometry.shown(torch.stack(seen, 1))
        return Prediction(particles, self._by_function(particles, draw.size)), float(total.mean())

    def _by_function(self, particles: Tensor, functions: int) -> Tensor | None:
        """Particles (K, T+1, D), of which number i follows function i mod S, as (T+1, S, P, D)."""
        each = len(particles) // functions
        if self.config.follow != "draw" or each < 2:
            return None
        whole = particles[: each * functions].unflatten(0, (each, functions))
        return whole.permute(2, 1, 0, 3)

    # -- the agent ----------------------------------------------------------------------------------------------

    def _agent(self, env: LearnedVectorEnv) -> BaseAlgorithm:
        """The agent as it was left, in the newest model."""
        agent = build_agent(self.name, LearnedVecEnv(env), self.context.device, self._options(env.horizon))
        agent.action_space.seed(self._seed("actions") % 2**31)
        if self.context.state.control:
            from_state(agent, self.context.state.control)
        return agent

    def _acting_agent(self) -> BaseAlgorithm:
        """The agent of the newest finished trial, or a fresh one."""
        options = {**self.context.config.controller_kwargs, **({"buffer_size": 1} if self._off_policy else {})}
        with self._private("untrained").used():
            agent = build_agent(self.name, NoEnv(self.task), self.context.device, options)
        if self.trained:
            from_state(agent, self.trained)
        return agent

    def _options(self, horizon: int) -> dict[str, Any]:
        """Arguments of the algorithm for the training of this trial."""
        config, given = self.config, self.context.config.controller_kwargs
        if not self._off_policy:
            return {**_whole_episodes(self.name, config.num_envs * horizon, horizon), **given}
        real = RealTransitions.of(self.task, self.context.state.data)
        imagined = config.num_envs * (config.prefill + self._steps())
        chosen = {
            "learning_starts": 0,
            "train_freq": 1,
            "gradient_steps": config.updates_at_once,
            "buffer_size": max(config.num_envs, min(imagined, LARGEST_BUFFER)),
            "replay_buffer_class": MixedReplayBuffer,
            "replay_buffer_kwargs": {"real": real, "real_share": config.real_share, "seed": self._seed("replay")},
        }
        if self.name in NOISY and config.noise:
            spread = np.full(len(self.task.low), config.noise)
            chosen["action_noise"] = NormalActionNoise(np.zeros_like(spread), spread)
        return {**chosen, **given}

    def _train(self, agent: BaseAlgorithm) -> int:
        """How often numbers went bad."""
        config, progress = self.config, self.context.progress("policy")
        if not self._off_policy:
            return train(agent, config.rounds * config.num_envs * self.task.horizon, progress)
        assert isinstance(agent, OffPolicyAlgorithm)
        agent.gradient_steps = 0
        bad = train(agent, config.prefill * config.num_envs, lambda *_: None)
        agent.gradient_steps = config.updates_at_once
        return bad + train(agent, self._steps() * config.num_envs, progress)

    def _steps(self) -> int:
        """Imagined steps of all environments in this trial, with updates after each."""
        state = self.context.state
        trials = state.data.trials
        new = len(trials) if not state.control else int((trials == trials[-1]).sum())
        return -(-self.config.updates(new) // self.config.updates_at_once)

    # -- what it learns in, and how it acts ---------------------------------------------------------------------

    def _imagined(self) -> LearnedVectorEnv:
        context, config = self.context, self.config
        draw = context.sampler(self._draws(config.num_envs))(context.generator("control/draw"))
        horizon = config.length_at(context.state.env_steps) if self._off_policy else self.task.horizon
        return LearnedVectorEnv(
            self.task,
            draw,
            observed_space(self.task),
            config.num_envs,
            horizon,
            context.starts("replay" if self._off_policy else "reset"),
            config.follow,
            self._seed("imagination"),
            self._bounds(),
        )

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """The box of all states so far, twice as wide: where a model goes beyond it, it knows nothing.

        Angles that the environment shows as cosines and sines have no bounds: they come round again.
        """
        seen = torch.cat([self.context.state.data.states, self.context.state.data.next_states]).to(self.context.device)
        low, high = seen.amin(0), seen.amax(0)
        lowest, highest = low - (high - low) / 2, high + (high - low) / 2
        if self.task.angles is not None:
            angles = list(self.task.geometry.angles)
            lowest[angles], highest[angles] = -torch.inf, torch.inf
        answers = list(self.task.geometry.binary)  # recorded as 0 and 1, imagined as logits
        lowest[answers], highest[answers] = -torch.inf, torch.inf
        return lowest, highest

    def _behaviour(self, agent: BaseAlgorithm, purpose: str, explore: bool) -> Callable[[np.ndarray], np.ndarray]:
        """From states (N, D) to action vectors (N, M), on random numbers of its own."""
        private, codec, task = self._private(f"acting/{purpose}"), self.task.codec, self.task
        noise = np.random.default_rng(self._seed(f"noise/{purpose}"))
        spread = self.config.noise * (codec.high - codec.low) / 2 if explore and self.name in NOISY else None

        def act(states: np.ndarray) -> np.ndarray:
            with private.used():
                actions, _ = agent.predict(task.observed(states, np).astype(np.float32), deterministic=not explore)
            vectors = codec.encode_all(actions)
            if spread is not None:
                vectors = vectors + spread * noise.standard_normal(vectors.shape)
            return codec.canonical(vectors).astype(np.float32)

        return act

    @property
    def _off_policy(self) -> bool:
        return self.name in OFF_POLICY

    def _draws(self, count: int) -> int:
        context = self.context
        return self.config.draws or context.method.natural_draws(count, context.config.rollout.most_weight_sets)

    def _seed(self, purpose: str) -> int:
        return derive(self.context.config.seed, f"control/{purpose}", self.context.state.trials)

    def _private(self, purpose: str) -> PrivateRandomness:
        return PrivateRandomness(self._seed(purpose), self.context.device)


def _single(acts: Callable[[np.ndarray], np.ndarray]) -> Controller:
    return lambda observation, _: acts(observation[None])[0]


def _whole_episodes(name: str, transitions: int, horizon: int) -> dict[str, Any]:
    """Options with which an update of ppo sees whole episodes of all environments, in about eight equal batches."""
    if name != "ppo":
        return {}
    parts = next(parts for parts in (8, 10, 6, 9, 7, 5, 4, 3, 2, 1) if transitions % parts == 0)
    return {"n_steps": horizon, "batch_size": max(2, transitions // parts)}
