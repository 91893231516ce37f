"""Particle-steps a second, beside what the device gives at best in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch

from dynapilco.benchmark.problem import make_search
from dynapilco.benchmark.timing import interleaved
from dynapilco.search import predicted_returns

PARTICLES = (400, 4_096, 65_536)
DRAWS, HORIZON, HIDDEN, POLICY = 10, 60, (200, 200), (48, 48)


@dataclass(frozen=True)
class Ceilings:
    """Floating-point operations a second of a square float32 product, and bytes a second of a copy (read + write)."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class ParticleRates:
    """Particle-steps a second of an imagined rollout without gradients, and of a whole gradient step."""

    particles: int
    forward: float
    gradient: float

    def operations(self) -> float:
        """Floating-point operations a second of the matrix products of a gradient step."""
        widths = (7, *HIDDEN, 2), (6, *POLICY, 1)
        model, policy = (2 * sum(a * b for a, b in pairwise(w)) for w in widths)
        return self.gradient * (2 * model + 3 * policy)


def measure_ceilings(device: torch.device, sizes: tuple[int, ...] = (), repeats: int = 10) -> Ceilings:
    """The best of a few products of squared matrices of some ``sizes``, and of copies of many of the largest."""
    sizes = sizes or ((4096, 8192) if device.type == "cuda" else (256, 512, 1024))
    flops = max(_product_rate(device, size, repeats) for size in sizes)
    source = torch.ones(16, max(sizes), max(sizes) // 4, device=device)
    target = torch.empty_like(source)
    (copies,) = interleaved([lambda: target.copy_(source)], repeats, device)
    return Ceilings(flops, 2 * source.numel() * source.element_size() / (1e-3 * min(copies)))


def _product_rate(device: torch.device, size: int, repeats: int) -> float:
    """Floating-point operations a second of a product; alone, for what runs in between empties the caches."""
    a, b, out = (torch.full((size, size), 0.5, device=device) for _ in range(3))
    (products,) = interleaved([lambda: torch.mm(a, b, out=out)], repeats, device)
    return 2 * size**3 / (1e-3 * min(products))


def particle_rates(particles: int, device: torch.device, engine: str = "auto", repeats: int = 5) -> ParticleRates:
    """Rates of ``particles`` in all, shared by ten functions, over 60 steps."""
    search = make_search(DRAWS, max(1, particles // DRAWS), HORIZON, HIDDEN, POLICY, engine, device)
    counter = iter(range(1, 10**9))
    params = search.candidates.params.detach()

    def forward() -> object:
        return predicted_returns(search.policy, params, search.imagination, search.generator, 1)

    def step() -> object:
        return search.step(next(counter))

    calls: list[Callable[[], object]] = [forward, step]
    times = interleaved(calls, repeats, device)
    total = DRAWS * max(1, particles // DRAWS)
    rates = (total * HORIZON / (1e-3 * statistics.median(each)) for each in times)
    return ParticleRates(total, *rates)
