"""``dynapilco report``: one HTML file about a run or a comparison, or the same served while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dynapilco.cli.options import parse
from dynapilco.core.errors import UserError

PROG = "dynapilco report"
DESCRIPTION = """Show a run or a comparison: one HTML file that needs no network, and figures for papers.

The page begins with the answer in words and a table, then shows learning, what the model believed of each
trial beside what happened (a slider moves over the trials), calibration, cost, videos, and the command that
repeats it. Open it with any browser, send it by mail, or put it on a web page: it is one file.

examples:
  dynapilco report runs/NAME                   # runs/NAME/report.html, runs/NAME/figures/report-*.svg and .png
  dynapilco report runs/compare                # the folder of "dynapilco compare"
  dynapilco report runs/NAME --out talk.html   # another place; figures go to figures/ beside it
  dynapilco report runs/NAME --watch           # while it runs: open the printed address, Ctrl-C ends"""


@dataclass(frozen=True)
class ReportOptions:
    """What to show, and where."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR|COMPARE_DIR")]
    """Folder of a run or of a comparison."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """The HTML file; report.html in the folder by default."""
    force: bool = False
    """Replace a file that is no report of dynapilco's (its own are replaced anyway)."""
    watch: bool = False
    """Write nothing: serve the page to this machine alone, and refresh it when files change."""
    port: int = 0
    """Port of --watch; 0 takes any free one."""


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = parse(ReportOptions, words, PROG, DESCRIPTION)
    if options.watch:
        return _watch(options)
    if options.port:
        raise UserError(f"--port {options.port} means something only with --watch")
    from dynapilco.report import write

    path = write(options.folder, options.out, options.force)
    print(f"report: {path}; figures for papers: {path.parent / 'figures' / path.stem}-*.svg and .png")
    return 0


def _watch(options: ReportOptions) -> int:
    if options.out is not None or options.force:
        raise UserError("--watch writes no file: expected no --out and no --force beside it")
    from dynapilco.report.watching import address, make_server

    server = make_server(options.folder, options.port)
    print(f"{options.folder} at {address(server)} (this machine only); Ctrl-C ends", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped")
    finally:
        server.server_close()
    return 0
