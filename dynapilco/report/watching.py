"""A report in the browser while a run goes on: served to this machine alone, made anew when files change."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from dynapilco.core.errors import UserError
from dynapilco.report.page.frame import Page, Section, render
from dynapilco.report.page.html import tag
from dynapilco.report.reading.comparison import is_comparison
from dynapilco.report.writing import build, checked_folder

HOST = "127.0.0.1"
READ = (
    "*.csv",
    "*.json",
    "*.toml",
    "*.txt",
    "fans/*.json",
    "videos/*",
)
"""What a report is made of."""
READ_OF_COMPARISON = ("runs.csv", "trials.csv", "compare.json")
"""Its page tells runs that have ended. While they go on their files change all the time, and a page is not cheap."""


def fingerprint(folder: Path) -> str:
    """A word that changes when a file of the report's changes."""
    found = []
    patterns = READ_OF_COMPARISON if is_comparison(folder) else READ
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        try:
            state = path.stat()
        except FileNotFoundError:  # replaced just now
            continue
        found.append(f"{path}:{state.st_mtime_ns}:{state.st_size}")
    return hashlib.sha256("\n".join(found).encode(errors="surrogateescape")).hexdigest()[:16]


class Watched:
    """The page about a folder, as it is now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._version, self._text = Lock(), "", ""

    def text(self) -> str:
        """The page; the last one, where nothing has changed."""
        with self._lock:
            version = fingerprint(self.folder)
            if version != self._version:
                self._text, self._version = render(self._page(), watch=version), version
            return self._text

    def _page(self) -> Page:
        """What cannot be shown yet is said, and shown when it can."""
        try:
            return build(self.folder)
        except UserError as error:
            words = tag("div", tag("p", "Nothing to show yet."), tag("p", str(error)), class_="answer")
            return Page(self.folder.resolve().name, "Waiting", [Section("answer", "", words)], [])


def make_server(folder: str | Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the report, bound to the loopback address; ``serve_forever`` runs it.

    Parameters
    ----------
    folder : path
        Of a run or of a comparison; it may have no finished trial yet.
    port : int
        0 takes any free one.

    Raises
    ------
    UserError
        For a folder that is neither, and for a port that is taken or forbidden.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"port={port!r}: expected 0 (any free one) to 65535")
    watched = Watched(checked_folder(folder))
    try:
        return _Server((HOST, port), _handler(watched))
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise UserError(f"port={port!r} {reason}: give another one, or 0 for any that is free") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def address(server: ThreadingHTTPServer) -> str:
    """Where a browser finds it."""
    return f"{'http'}://{HOST}:{server.server_address[1]}/"


def _handler(watched: Watched) -> type[BaseHTTPRequestHandler]:
    answers: dict[str, tuple[str, Callable[[], str]]] = {
        "/": ("text/html; charset=utf-8", watched.text),
        "/version": ("text/plain; charset=utf-8", lambda: fingerprint(watched.folder)),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self._is_local():  # a page from elsewhere whose name was pointed at this machine
                self.send_error(403, "Only for this machine")
            elif self.path not in answers:
                self.send_error(404)
            else:
                kind, make = answers[self.path]
                self._send(kind, make().encode())

        def _is_local(self) -> bool:
            return self.headers.get("Host", "").rpartition(":")[0] in (HOST, "localhost")

        def _send(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the page asks every two seconds."""

    return Handler
