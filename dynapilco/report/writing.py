"""Writing a report to disk: the page, and figures for papers beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynapilco.core.errors import UserError
from dynapilco.core.storage import write_atomically
from dynapilco.report.charts.spec import MARK
from dynapilco.report.page.frame import GENERATOR, Page, render
from dynapilco.report.page.of_run import run_page
from dynapilco.report.reading.comparison import is_comparison, read_comparison
from dynapilco.report.reading.run import is_run, read_run

NAME = "report.html"
FIGURES = "figures"
MARKS = {
    ".html": f'<meta name="generator" content="{GENERATOR}">',
    ".svg": f"<dc:title>{MARK}</dc:title>",
    ".png": f"Software\0{MARK}",
}
"""What stands within the first bytes of our files, which may be replaced."""
HEAD_BYTES = 2000


def write(folder: str | Path, out: str | Path | None = None, force: bool = False) -> Path:
    """Write the report of a run or of a comparison, and its figures for papers.

    Figures go to ``figures/`` beside the page, as SVG and PNG, named after it: ``figures/report-learning-curve.svg``.
    An earlier report is replaced.

    Parameters
    ----------
    folder : path
        A run directory, or the folder of a comparison.
    out : path, optional
        The HTML file, ``report.html`` in ``folder`` by default.
    force : bool
        Replace files that are no reports of ours.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    UserError
        For a folder that is neither, has no finished trial, or holds a table that cannot be read, and for a file that
        would be overwritten. Nothing has been written then.
    """
    folder = checked_folder(folder)
    path = Path(out) if out is not None else folder / NAME
    _check_out(path, force)
    page = build(folder)
    text = render(page)
    figures = {path.parent / FIGURES / f"{path.stem}-{name}": content for name, content in paper_figures(page)}
    for figure in figures:
        _check_replaceable(figure, force)
    for figure, content in figures.items():
        write_atomically(figure, content)
    write_atomically(path, text)
    return path


def checked_folder(folder: str | Path) -> Path:
    """The folder, if it is that of a run or a comparison.

    Raises
    ------
    UserError
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"folder={str(folder)!r} {what}: expected the folder of a run or of a comparison")
    if not is_comparison(folder) and not is_run(folder):
        raise UserError(
            f"folder={str(folder)!r} is neither a run (no progress.csv, no config.toml) nor a comparison (no "
            "compare.json, no runs.csv): expected the folder of one"
        )
    return folder


def build(folder: Path) -> Page:
    """The page about a folder, read anew."""
    if is_comparison(folder):
        from dynapilco.report.page.of_comparison import comparison_page  # pandas is slow to import

        return comparison_page(read_comparison(folder))
    return run_page(read_run(folder))


def paper_figures(page: Page) -> Iterator[tuple[str, bytes]]:
    """(name with suffix, content) of every chart, and of the fan of each run's last trial."""
    from dynapilco.report.charts.paper import chart_figure, fan_figure, svg_and_png  # matplotlib is slow to import

    for chart in page.charts:
        for suffix, content in svg_and_png(chart_figure(chart)).items():
            yield f"{chart.name}{suffix}", content
    for number, run in enumerate(page.fans):
        trial: dict[str, Any] | None = next((t for t in reversed(run["trials"]) if t["fan"]), None)
        if trial is not None:
            place = "" if len(page.fans) == 1 else f"-{number + 1}"
            title = trial["title"] if len(page.fans) == 1 else f"{run['label']}\n{trial['title']}"
            for suffix, content in svg_and_png(fan_figure(trial["fan"], title)).items():
                yield f"fan{place}{suffix}", content


def _check_out(path: Path, force: bool) -> None:
    if path.suffix not in (".html", ".htm"):
        raise UserError(f"out={str(path)!r}: expected the name of an HTML file, such as report.html")
    if path.is_dir():
        raise UserError(f"out={str(path)!r} is a folder: expected the name of an HTML file")
    _check_replaceable(path, force)


def _check_replaceable(path: Path, force: bool) -> None:
    if path.exists() and not force and not _is_ours(path):
        raise UserError(
            f"{str(path)!r} exists and is no report of dynapilco: give --force to replace it, or another --out"
        )


def _is_ours(path: Path) -> bool:
    mark = MARKS.get(path.suffix, MARKS[".html"])
    with path.open("rb") as file:
        return mark.encode() in file.read(HEAD_BYTES)
