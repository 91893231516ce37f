"""A replay buffer whose batches are partly real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from dynapilco.dynamics import Transitions
from dynapilco.tasks import Task


@dataclass(frozen=True)
class RealTransitions:
    """Real transitions as replay buffers of stable-baselines3 hold them.

    Attributes
    ----------
    observations, next_observations : Tensor
        (N, D) without what is learned beside the motion.
    actions : Tensor
        (N, A): of a box scaled to [-1, 1]; of choices their numbers.
    dones : Tensor
        (N, 1): 1 where a step ended its episode; not by a time limit.
    rewards : Tensor
        (N, 1).
    """

    observations: Tensor
    actions: Tensor
    next_observations: Tensor
    dones: Tensor
    rewards: Tensor

    @classmethod
    def of(cls, task: Task, data: Transitions) -> RealTransitions:
        """All transitions of a data set, as the task understands them."""
        ended = task.was_end(data.states, data.actions, data.next_states)
        return cls(
            task.observed(data.states, torch),
            _stored(task, data.actions),
            task.observed(data.next_states, torch),
            ended.float().unsqueeze(1),
            data.rewards.unsqueeze(1),
        )

    def __len__(self) -> int:
        return len(self.actions)


class MixedReplayBuffer(ReplayBuffer):
    """Imagined transitions, beside real ones that make up a share of every batch (MBPO: Janner et al. 2019).

    Parameters
    ----------
    *args, **kwargs
        Of ``stable_baselines3.common.buffers.ReplayBuffer``.
    real : RealTransitions
    real_share : float
        In [0, 1]; rounded to whole rows of a batch.
    seed : int
        Of the choice of real rows.
    """

    def __init__(self, *args: Any, real: RealTransitions, real_share: float, seed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.real, self.real_share, self.choice = real, real_share, torch.Generator().manual_seed(seed)

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """A batch, real rows first; see ``ReplayBuffer.sample``."""
        count = round(self.real_share * batch_size) if len(self.real) else 0
        if not count:
            return super().sample(batch_size, env)
        rows = torch.randint(len(self.real), (count,), generator=self.choice)
        real = self._real(rows)
        if count == batch_size:
            return real
        imagined = super().sample(batch_size - count, env)
        pairs = zip(real[:5], imagined[:5], strict=True)
        return ReplayBufferSamples(*(torch.cat([r, i.to(r.dtype)]) for r, i in pairs))

    def _real(self, rows: Tensor) -> ReplayBufferSamples:
        real = self.real
        parts = (real.observations, real.actions, real.next_observations, real.dones, real.rewards)
        return ReplayBufferSamples(*(part[rows].to(self.device) for part in parts))


def _stored(task: Task, actions: Tensor) -> Tensor:
    """Action vectors (N, M) as replay buffers hold them, (N, A)."""
    if task.codec.choices:
        return torch.stack([group.argmax(-1) for group in actions.split(task.codec.choices, -1)], -1)
    low, high = torch.as_tensor(task.codec.low), torch.as_tensor(task.codec.high)
    return 2 * (actions - low) / (high - low) - 1
