"""Actions for the trials before there is a model."""

from __future__ import annotations

import numpy as np

WAVES, LOWEST_HZ, HIGHEST_HZ = 6, 0.2, 1.5
MULTISINE_HZ = 0.3, 2.0
MULTISINE_DRIVE = 5.0
"""Root mean square of a multisine before it is squashed: it spends most of its time near the bounds."""
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
        ``"multisine"``: tanh of six sinusoids of 0.3 to 2 Hz with normal amplitudes and random phases, their sum
        scaled to a root mean square of 5, so that every trial excites the system strongly; ``"sinusoid"``: the same
        with 0.2 to 1.5 Hz and amplitudes as they are; ``"random"``: independent uniform.
    horizon : int
    low, high : ndarray
        (M,).
    dt : float or None
        Seconds a step; 0.05 where the environment does not say, and for steps in which whole waves would pass.
    generator : numpy.random.Generator
    """
    columns = len(low)
    if kind == "random":
        unit = generator.uniform(-1, 1, (horizon, columns))
    else:
        lowest, highest = MULTISINE_HZ if kind == "multisine" else (LOWEST_HZ, HIGHEST_HZ)
        dt = DEFAULT_DT if dt is None or highest * dt > 1 else dt  # whole waves within a step are noise
        seconds = np.arange(horizon)[:, None, None] * dt
        hertz = generator.uniform(lowest, highest, (WAVES, columns))
        phase = generator.uniform(0, 2 * np.pi, (WAVES, columns))
        amplitude = generator.standard_normal((WAVES, columns))
        if kind == "multisine":
            amplitude *= MULTISINE_DRIVE / np.sqrt((amplitude**2).sum(0) / 2)
        unit = np.tanh((amplitude * np.sin(2 * np.pi * hertz * seconds + phase)).sum(1))
    return ((low + high) / 2 + unit * (high - low) / 2).astype(np.float32)
