"""Code of others that draws from global generators, run on random numbers of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class PrivateRandomness:
    """A stand-in for the global generators of numpy and torch.

    Inside :meth:`used` they go on from where this stream was left the last time; outside, nothing of it is seen:
    the states that were there come back, also after an error.

    Parameters
    ----------
    seed : int
    device : torch.device
        Whose generator is stood in for, beside that of the CPU.

    Examples
    --------
    >>> import torch
    >>> private = PrivateRandomness(3, torch.device("cpu"))
    >>> before = torch.get_rng_state()
    >>> with private.used():
    ...     _ = torch.rand(2)
    >>> bool((torch.get_rng_state() == before).all())
    True
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._numpy = _numpy_state(seed)
        self._cuda = torch.Generator(device).manual_seed(seed).get_state() if device.type == "cuda" else None

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let global generators follow this stream inside the block."""
        outside = np.random.get_state(legacy=False)
        with torch.random.fork_rng(devices=[self.device] if self._cuda is not None else []):
            self._enter()
            try:
                yield
            finally:
                self._leave()
                np.random.set_state(outside)

    def _enter(self) -> None:
        torch.default_generator.set_state(self._torch)
        np.random.set_state(self._numpy)
        if self._cuda is not None:
            torch.cuda.default_generators[self.device.index or 0].set_state(self._cuda)

    def _leave(self) -> None:
        self._torch = torch.default_generator.get_state()
        self._numpy = np.random.get_state(legacy=False)
        if self._cuda is not None:
            self._cuda = torch.cuda.default_generators[self.device.index or 0].get_state()


def _numpy_state(seed: int) -> dict:
    """The state of numpy's legacy generator, which libraries draw from, for a seed."""
    generator = np.random.MT19937(np.random.SeedSequence(seed))
    return {**generator.state, "has_gauss": 0, "gauss": 0.0}
