"""One seed, many independent streams: a generator for each purpose and trial.

Nothing in the library seeds or draws from a global generator. A stream depends on (seed, purpose, trial) alone,
so a resumed run draws what an uninterrupted one would have drawn, and no generator state is ever stored.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive(seed: int, purpose: str, *indices: int) -> int:
    """Derive a 63-bit seed for one purpose.

    Parameters
    ----------
    seed : int
        The run's seed, at least 0.
    purpose : str
        Name of the stream: ``"model"``, ``"particles"``, ``"env"``, ...
    *indices : int
        Trial number, episode number and the like. No index and a last index 0 give the same stream: a purpose should
        always be used with the same number of indices.
    """
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    sequence = np.random.SeedSequence([seed, word, *indices])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_generator(seed: int, purpose: str, *indices: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A ``torch.Generator`` on ``device`` for (seed, purpose, indices)."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, *indices))


def numpy_generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A ``numpy.random.Generator`` for (seed, purpose, indices)."""
    return np.random.default_rng(derive(seed, purpose, *indices))
