"""What all peers and we compute: one network, one data set, one batch order, by seed; numpy only.

The network is 10 -> 50 -> 50 -> 8 with tanh (3,508 weights). The targets come from a network of the same shape whose
weights are N(0, 1/fan_in), plus noise of standard deviation SIGMA. Chains start near those weights.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

SEED = 0
WIDTHS = (10, 50, 50, 8)
ROWS = 1000
BATCH = 100
SIGMA = 0.1
CHAINS = 8
LEARNING_RATE = 1e-3
SAMPLER_STEP = 1e-6
HMC_STEP = 1e-3
LEAPFROGS = 50
HMC_ROWS = (200, 1000)

Layers = list[tuple[np.ndarray, np.ndarray]]


def data(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (rows, 10) and targets (rows, 8), float32; the first rows of the largest set."""
    generator = np.random.default_rng([SEED, 0])
    x = generator.standard_normal((ROWS, WIDTHS[0]))
    y = forward(weights(), x) + SIGMA * generator.standard_normal((ROWS, WIDTHS[-1]))
    return x[:rows].astype(np.float32), y[:rows].astype(np.float32)


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch, in order; step k takes batch k modulo their number."""
    x, y = data()
    return [(x[at : at + BATCH], y[at : at + BATCH]) for at in range(0, ROWS, BATCH)]


def weights() -> Layers:
    """Weight (out, in) and bias (out,) of each layer of the network that made the targets, float32."""
    generator = np.random.default_rng([SEED, 1])
    layers: Layers = []
    for fan_in, fan_out in pairwise(WIDTHS):
        weight = generator.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in)
        layers.append((weight.astype(np.float32), np.zeros(fan_out, dtype=np.float32)))
    return layers


def chain_starts(spread: float = 0.01) -> Layers:
    """Weights (chains, out, in) and biases (chains, out): each chain near ``weights()``, float32."""
    generator = np.random.default_rng([SEED, 2])
    return [
        (
            (w + spread * generator.standard_normal((CHAINS, *w.shape))).astype(np.float32),
            (b + spread * generator.standard_normal((CHAINS, *b.shape))).astype(np.float32),
        )
        for w, b in weights()
    ]


def forward(layers: Layers, x: np.ndarray) -> np.ndarray:
    """The network's outputs (rows, 8)."""
    for index, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        if index < len(layers) - 1:
            x = np.tanh(x)
    return x
