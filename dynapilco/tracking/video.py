"""Frames of an episode as a video file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

ENCODER = "libx264"


def write_video(
    path: Path, frames: Sequence[np.ndarray], dt: float, message: Callable[[str], None] = lambda text: None
) -> Path:
    """Write frames as MP4 (H.264), or as GIF where that encoder is missing.

    Parameters
    ----------
    path : Path
        Where to write; ends in ``.mp4``. Its folder is made.
    frames : sequence of ndarray
        At least one picture (H, W, 3), uint8, all of one size.
    dt : float
        Seconds between frames.
    message : callable, optional
        Hears in one sentence when the GIF has to do.

    Returns
    -------
    Path
        The file that was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = max(1, round(1 / dt))
    part = path.with_name(f".{path.stem}.part.mp4")
    try:
        _write_mp4(part, frames, rate)
        return part.replace(path)
    except (
        ImportError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # PyAV's errors are OSError or ValueError
        gif = path.with_suffix(".gif")
        message(f"no video encoder {ENCODER} ({type(error).__name__}): writing {gif.name} instead of {path.name}")
        _write_gif(gif, frames, rate)
        return gif
    finally:
        part.unlink(missing_ok=True)


def _write_mp4(path: Path, frames: Sequence[np.ndarray], rate: int) -> None:
    import imageio.v3 as iio

    with iio.imopen(path, "w", plugin="pyav") as file:
        file.init_video_stream(ENCODER, fps=rate, pixel_format="yuv420p")  # pyright: ignore
        for frame in frames:
            file.write_frame(_even(frame))  # pyright: ignore


def _write_gif(path: Path, frames: Sequence[np.ndarray], rate: int) -> None:
    import imageio.v3 as iio

    iio.imwrite(path, np.stack(list(frames)), extension=".gif", duration=1000 / rate, loop=0)


def _even(frame: np.ndarray) -> np.ndarray:
    """Repeat the last row or column of an odd size: yuv420p halves both."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
