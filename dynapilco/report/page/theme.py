"""Style sheet and script of the page, each one text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files

from dynapilco.report.charts.styles import Style

SCRIPTS = ("plot.js", "charts.js", "fans.js", "page.js")
LIGHT = {
    "paper": "#ffffff", "ink": "#1c1c1e", "soft": "#5a5d63", "panel": "#f4f5f7", "rule": "#dcdee2", "edge": "#9a9ea6",
    "grid": "#e8e9ec", "link": "#1f5a93", "focus": "#e08a00", "good": "#1f7a45", "bad": "#b3361b",
}  # fmt: skip
DARK = {
    "paper": "#16181c", "ink": "#ececee", "soft": "#aab0b8", "panel": "#20242a", "rule": "#373c44", "edge": "#6a717b",
    "grid": "#2a2e35", "link": "#8ec3f5", "focus": "#ffb84d", "good": "#5cc98a", "bad": "#ff8a6b",
}  # fmt: skip


def asset(name: str) -> str:
    """A file of ``dynapilco/report/assets``."""
    return (files("dynapilco.report") / "assets" / name).read_text(encoding="utf-8")


def style_sheet(styles: Mapping[int, Style]) -> str:
    """Colours on light and on dark paper, then the rules."""
    light = LIGHT | {f"s{number}": look.light for number, look in styles.items()}
    dark = DARK | {f"s{number}": look.dark for number, look in styles.items()}
    return (
        f":root {{ color-scheme: light; {_variables(light)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) "
        f"{{ color-scheme: dark; {_variables(dark)} }} }}\n"
        f"@media screen {{ :root[data-theme=dark] {{ color-scheme: dark; {_variables(dark)} }} }}\n"
        + asset("report.css")
    )


def _variables(values: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in values.items())


def script() -> str:
    """The page's only script; its names stay its own."""
    return "(() => {\n" + "\n".join(asset(name) for name in SCRIPTS) + "})();\n"


def policy(text: str) -> str:
    """Content security policy: this one script runs and no other, and nothing is fetched from anywhere else."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
