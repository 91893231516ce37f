"""Particles through draws under a policy: the imagination of the whole library.

Two engines compute the same numbers: ``fused`` (a compiled CPU kernel, for draws and policies that are stacks of dense
tanh layers, and for models of SiLU layers where no gradient is asked for) and ``torch`` (any draw, any policy, any
device, by autograd).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.policies.base import Policy
from dynapilco.rollout import fused
from dynapilco.rollout.damping import Damping, damp
from dynapilco.rollout.moment_matching import moment_match
from dynapilco.rollout.noise import RolloutNoise

Segment = Callable[[Tensor, int, int], tuple[Tensor, Tensor]]
"""(x, first step, number of steps) -> states (L, R, S, P, D), actions (L, R, S, P, M)."""


@dataclass(frozen=True)
class Trajectories:
    """Imagined trajectories.

    Attributes
    ----------
    states : Tensor
        (T+1, R, S, P, D), the start included.
    actions : Tensor
        (T, R, S, P, M), in the units of the environment.
    """

    states: Tensor
    actions: Tensor


class Simulator:
    """Rolls policies out through one draw; prepares once what stays the same over many rollouts.

    Parameters
    ----------
    draw : DynamicsDraw
    policy : Policy
    particles : int
        P, particles per function.
    engine : str
        ``"auto"``, ``"fused"`` or ``"torch"``.
    damping : Damping, optional
        What happens to the adjoint of the state at each step.
    """

    def __init__(
        self,
        draw: DynamicsDraw,
        policy: Policy,
        particles: int,
        engine: str = "auto",
        damping: Damping | None = None,
    ) -> None:
        if engine not in ("auto", "fused", "torch"):
            raise UserError(f"engine={engine!r}: expected 'auto', 'fused' or 'torch'")
        self.draw, self.policy, self.particles, self.damping = draw, policy, particles, damping
        self.plan = None
        if engine != "torch":
            self.plan = _fused_plan(draw, policy, particles, damping)
        if engine == "fused" and self.plan is None:
            raise RuntimeError(f"the fused engine cannot run this: {fused.unavailable_reason() or 'unsupported parts'}")

    @property
    def engine(self) -> str:
        """Which engine runs."""
        return "torch" if self.plan is None else "fused"

    def __call__(
        self, params: Tensor, noise: RolloutNoise, horizon: int, action_std: float | Tensor = 0.0
    ) -> Trajectories:
        """Roll out R candidates.

        Parameters
        ----------
        params : Tensor
            Policy parameters, (R, n).
        noise : RolloutNoise
        horizon : int
            T.
        action_std : float or Tensor
            Standard deviation of noise on the raw (pre-squash) action; for choices the scale of Gumbel noise.
        """
        silent = not isinstance(action_std, Tensor) and action_std == 0
        scaled = None if noise.action is None or silent else noise.action * action_std
        segment = (
            self._torch_segment(params, noise, scaled)
            if self.plan is None or (torch.is_grad_enabled() and not self.plan.differentiable)
            else self._fused_segment(params, noise, scaled)
        )
        x = noise.start
        if noise.resample is None:
            states, actions = segment(x, 0, horizon)
        else:
            pairs = []
            for t in range(horizon):
                moved, u = segment(x, t, 1)
                x = moment_match(moved[0], noise.resample[t])
                pairs.append((x, u[0]))
            states, actions = torch.stack([x for x, _ in pairs]), torch.stack([u for _, u in pairs])
        return Trajectories(torch.cat([noise.start.unsqueeze(0), states]), actions)

    def _torch_segment(self, params: Tensor, noise: RolloutNoise, action_noise: Tensor | None) -> Segment:
        def segment(x: Tensor, first: int, length: int) -> tuple[Tensor, Tensor]:
            states, actions = [], []
            for t in range(first, first + length):
                x = damp(x, self.damping)
                seen = x if noise.sensor is None else x + noise.sensor[t]
                features = self.draw.geometry.features(seen).flatten(1, 2)
                raw = self.policy.raw(params, features).reshape(*x.shape[:-1], -1)
                u = self.policy.squash(raw if action_noise is None else raw + action_noise[t])
                x = self.draw.step(x, u, None if noise.process is None else noise.process[t])
                states.append(x)
                actions.append(u)
            return torch.stack(states), torch.stack(actions)

        return segment

    def _fused_segment(self, params: Tensor, noise: RolloutNoise, action_noise: Tensor | None) -> Segment:
        stack = self.policy.dense(params)
        assert stack is not None and self.plan is not None
        plan = self.plan

        def part(noise: Tensor | None, first: int, length: int) -> Tensor | None:
            return None if noise is None else noise[first : first + length]

        def segment(x: Tensor, first: int, length: int) -> tuple[Tensor, Tensor]:
            return fused.fused_segment(
                plan,
                stack,
                x,
                length=length,
                action_noise=part(action_noise, first, length),
                obs_noise=part(noise.sensor, first, length),
                process_noise=part(noise.process, first, length),
            )

        return segment


def _fused_plan(
    draw: DynamicsDraw, policy: Policy, particles: int, damping: Damping | None
) -> fused.SegmentPlan | None:
    model = draw.functions.dense(particles)
    probe = policy.dense(policy.init(1, torch.Generator(policy.centre.device).manual_seed(0)))
    if model is None or probe is None or not fused.supports(model, probe) or not fused.available():
        return None
    return fused.SegmentPlan(
        model=model,
        angles=draw.geometry.angles,
        transition=draw.stepping.transition,
        effect=draw.stepping.effect,
        centre=policy.centre,
        half=policy.half,
        draws=draw.size,
        damping=damping,
        choices=draw.geometry.choices,
        carry=draw.stepping.carry,
        bounds=draw.stepping.bounds,
    )
