"""From a word to what acts."""

from __future__ import annotations

from dynapilco.agent.config import PATHWISE
from dynapilco.agent.context import Context
from dynapilco.agent.control.base import Control
from dynapilco.agent.control.pathwise import PathwiseControl
from dynapilco.agent.control.planned import PlannedControl


def make_control(name: str, context: Context) -> Control:
    """What acts, by the word of ``AgentConfig.controller``."""
    if name == PATHWISE:
        return PathwiseControl(context)
    return PlannedControl(context, name)
