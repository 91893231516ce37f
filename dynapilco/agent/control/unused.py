"""Settings that were given and that what acts does not look at."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from dynapilco.agent.config import EVOLUTION, PATHWISE, AgentConfig
from dynapilco.imagination.config import ALGORITHMS
from dynapilco.planning.config import PLANNERS

SECTIONS = ("rollout", "search", "evolution", "planning", "imagination")
USED = {
    PATHWISE: ("rollout", "search"),
    EVOLUTION: ("rollout", "evolution"),
    **dict.fromkeys(PLANNERS, ("planning",)),
    **dict.fromkeys(ALGORITHMS, ("rollout", "imagination")),
}
"""What acts -> the sections that it looks at."""
IDLE = {
    EVOLUTION: ("horizon", "starts", "terminal_value"),  # it imagines whole trials from where real ones begin
    **dict.fromkeys(ALGORITHMS, ("horizon", "starts", "propagation", "draws", "discount", "terminal_value")),
}
"""What acts -> settings of the section ``rollout`` that it does not look at all the same."""


def unused_settings(config: AgentConfig, acts: str) -> list[str]:
    """Names of settings, ``section.name=value``, that differ from their defaults and change nothing under ``acts``."""
    found = []
    for section in SECTIONS:
        given: Any = getattr(config, section)
        idle = IDLE.get(acts, ()) if section == "rollout" else ()
        for field in fields(given):
            value = getattr(given, field.name)
            if (section not in USED[acts] or field.name in idle) and value != field.default:
                found.append(f"{section}.{field.name}={value!r}")
    return found


def unused_text(config: AgentConfig, acts: str) -> str | None:
    """One sentence about them; None where there are none."""
    found = unused_settings(config, acts)
    if not found:
        return None
    whole = " (it imagines whole trials from where real ones begin)" if acts == EVOLUTION else ""
    return f"controller {acts} does not look at {', '.join(found)}: without effect{whole}"
