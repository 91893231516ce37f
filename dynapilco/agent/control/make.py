"""From a word to what acts."""

from __future__ import annotations

from dynapilco.agent.config import AUTO, EVOLUTION, PATHWISE
from dynapilco.agent.context import Context
from dynapilco.agent.control.base import Control
from dynapilco.agent.control.evolved import EvolvedControl
from dynapilco.agent.control.pathwise import PathwiseControl
from dynapilco.agent.control.planned import PlannedControl
from dynapilco.imagination.config import ALGORITHMS


def make_control(name: str, context: Context) -> Control:
    """What acts, by the word of ``AgentConfig.controller``; what was chosen automatically comes from the state.

    Before there is anything to choose by, ``"auto"`` acts as the policy of a pathwise search does: untrained.
    """
    if name == AUTO:
        name = context.state.controller or PATHWISE
    if name == PATHWISE:
        return PathwiseControl(context)
    if name == EVOLUTION:
        return EvolvedControl(context)
    if name in ALGORITHMS:
        from dynapilco.agent.control.imagined import ImaginedControl  # imports all of stable-baselines3

        return ImaginedControl(context, name)
    return PlannedControl(context, name)
