"""Videos inside the page, up to a size."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from dynapilco.report.page.html import Html, tag

MOST_BYTES = 8_000_000
"""Of one video."""
MOST_BYTES_IN_ALL = 24_000_000
TYPES = {".mp4": "video/mp4", ".gif": "image/gif"}


class VideoShelf:
    """Embeds videos until there is no more room; what does not fit is named.

    Parameters
    ----------
    room : int
        Bytes left for all videos of the page.
    """

    def __init__(self, room: int = MOST_BYTES_IN_ALL) -> None:
        self.room = room

    def add(self, path: Path, caption: str) -> Html:
        """A figure with the video in it, or with a sentence why not."""
        try:
            size = path.stat().st_size
            content = path.read_bytes() if 0 < size <= min(self.room, MOST_BYTES) else b""
        except OSError as error:
            return self._figure(tag("p", f"{path.name} cannot be read ({error.strerror})."), caption)
        if not content:
            return self._figure(tag("p", self._why_not(path, size)), caption)
        self.room -= size
        source = f"data:{TYPES[path.suffix]};base64,{base64.b64encode(content).decode()}"
        if path.suffix == ".gif":
            remark = f"{caption} (a GIF: the machine that ran it had no H.264 encoder)"
            return self._figure(tag("img", src=source, alt=f"Video: {caption}"), remark)
        player = tag("video", "This browser plays no video.", src=source, controls=True, loop=True, muted=True,
                     playsinline=True, preload="auto", aria_label=f"Video: {caption}")  # fmt: skip
        return self._figure(player, caption)

    def _why_not(self, path: Path, size: int) -> str:
        if size == 0:
            return f"{path.name} is empty."
        limit, what = (MOST_BYTES, "a video") if size > MOST_BYTES else (MOST_BYTES_IN_ALL, "all videos together")
        place = "/".join(path.parts[-2:])
        return f"{place} is not embedded: it has {size / 1e6:.1f} MB, and {what} may have {limit / 1e6:.0f} MB."

    @staticmethod
    def _figure(content: Html, caption: str) -> Html:
        return tag("figure", content, tag("figcaption", caption))


def shelf_of(videos: Sequence[Path], captions: Sequence[str], shelf: VideoShelf) -> Html:
    """Several videos side by side."""
    figures = [shelf.add(path, caption) for path, caption in zip(videos, captions, strict=True)]
    return tag("div", figures, class_="videos")
