"""Actions for the trials before there is a model."""

from __future__ import annotations

import numpy as np

WAVES, LOWEST_HZ, HIGHEST_HZ = 6, 0.2, 1.5
DEFAULT_DT = 0.05


def excitation(
    kind: str,
    horizon: int,
    low: np.ndarray,
    high: np.ndarray,
    dt: float | None,
    generator: np.random.Generator,
) -> np.ndarray:
    """Actions (horizon, M) inside the box.

    Parameters
    ----------
    kind : str
        ``"sinusoid"``: tanh of six sinusoids of 0.2 to 1.5 Hz with standard normal amplitudes and random phases;
        ``"random"``: independent uniform.
    horizon : int
    low, high : ndarray
        (M,).
    dt : float or None
        Seconds a step; 0.05 where the environment does not say.
    generator : numpy.random.Generator
    """
    columns = len(low)
    if kind == "random":
        unit = generator.uniform(-1, 1, (horizon, columns))
    else:
        seconds = np.arange(horizon)[:, None, None] * (dt or DEFAULT_DT)
        hertz = generator.uniform(LOWEST_HZ, HIGHEST_HZ, (WAVES, columns))
        phase = generator.uniform(0, 2 * np.pi, (WAVES, columns))
        amplitude = generator.standard_normal((WAVES, columns))
        unit = np.tanh((amplitude * np.sin(2 * np.pi * hertz * seconds + phase)).sum(1))
    return ((low + high) / 2 + unit * (high - low) / 2).astype(np.float32)
