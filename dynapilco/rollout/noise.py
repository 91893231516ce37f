"""All the randomness of a rollout, drawn before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.tasks.task import Task

StartSampler = Callable[[tuple[int, ...], torch.Generator], Tensor]
"""(shape, generator) -> start states (*shape, D)."""


@dataclass(frozen=True)
class RolloutNoise:
    """Random numbers of R x S x P particles over T steps, the same for every candidate.

    Held fixed, they make the rollout a deterministic function of the policy (common random numbers).

    Attributes
    ----------
    start : Tensor
        Start states, (R, S, P, D).
    process : Tensor or None
        Noise added to the model's outputs, (T, R, S, P, O), scaled.
    sensor : Tensor or None
        Noise that only the policy sees, (T, R, S, P, D), scaled.
    resample : Tensor or None
        Standard normals of moment matching, (T, R, S, P, D), of zero mean and unit covariance over the particles.
    action : Tensor or None
        Standard normals for noise on the raw action, (T, R, S, P, M); standard Gumbel numbers for choices.
    """

    start: Tensor
    process: Tensor | None
    sensor: Tensor | None
    resample: Tensor | None
    action: Tensor | None

    @property
    def horizon_free(self) -> bool:
        """True where no noise depends on time, hence any horizon fits."""
        return all(n is None for n in (self.process, self.sensor, self.resample, self.action))


def sample_noise(
    task: Task,
    draw: DynamicsDraw,
    horizon: int,
    candidates: int,
    particles: int,
    generator: torch.Generator,
    *,
    moment_matching: bool = False,
    action_noise: bool = False,
    starts: StartSampler | None = None,
) -> RolloutNoise:
    """Draw the noise of one rollout.

    Every candidate gets the same start states and noise, so that candidates are compared like with like. ``starts``
    samples the start states; without it the task's start distribution does.
    """
    geometry, device = task.geometry, generator.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    def expand(noise: Tensor) -> Tensor:
        return noise.expand(horizon, candidates, *noise.shape[2:])

    lead = (horizon, 1, draw.size, particles)
    start = (starts or task.sample_start)((1, draw.size, particles), generator)
    process = sensor = resample = action = None
    if draw.process_std is not None:
        process = expand(normal(*lead, draw.stepping.outputs) * draw.process_std.unsqueeze(1))
    if draw.sensor_std is not None:
        sensor = expand(normal(*lead, geometry.states) * draw.sensor_std)
    if moment_matching:
        resample = expand(_whiten(normal(*lead, geometry.states)))
    if action_noise:
        action = normal(*lead, geometry.actions)
        if geometry.choices:
            action = -torch.empty_like(action).exponential_(generator=generator).log()
        action = expand(action)
    return RolloutNoise(start.expand(candidates, *start.shape[1:]), process, sensor, resample, action)


def _whiten(z: Tensor) -> Tensor:
    """Make (T, 1, S, P, D) normals exactly standard over the S x P particles of each step, when there are enough."""
    flat = z.flatten(2, 3)
    n, d = flat.shape[-2:]
    if n <= d:
        return z
    flat = flat - flat.mean(-2, keepdim=True)
    factor, _ = torch.linalg.cholesky_ex(flat.transpose(-1, -2) @ flat / n)  # n > d normals: never singular
    white = torch.linalg.solve_triangular(factor, flat.transpose(-1, -2), upper=False).transpose(-1, -2)
    return white.reshape(z.shape)
