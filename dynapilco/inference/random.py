"""Randomness of code that takes no generator: torch's distributions and ``reset_parameters``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Distribution


@contextmanager
def global_generator_from(generator: torch.Generator) -> Iterator[None]:
    """Let torch's global generator follow ``generator`` inside the block, and put it back afterwards.

    One number is taken from ``generator``, so that the same generator gives the same draws whatever happened to the
    global one before.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    devices = [generator.device] if generator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU as well
        if generator.device.type == "cuda":
            torch.cuda.default_generators[torch.device(generator.device).index or 0].manual_seed(seed)
        yield


def sample_distribution(distribution: Distribution, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw ``shape + batch_shape + event_shape`` from any ``torch.distributions`` object, with a generator."""
    with global_generator_from(generator):
        return distribution.sample(torch.Size(shape))
