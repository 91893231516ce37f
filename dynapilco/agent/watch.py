"""What to do about an environment, or a known function, that misbehaves: say it, count it, go on or stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dynapilco.agent.agreement import Disagreement, disagreement
from dynapilco.agent.config import AgentConfig
from dynapilco.agent.episode import Episode
from dynapilco.core.errors import EnvironmentFault, FunctionFault, UserError
from dynapilco.tasks import FlatEnv, Task
from dynapilco.tasks.checks import says_yes_or_no
from dynapilco.tasks.contract import shown
from dynapilco.tracking.sink import TrialRow

Answer = TypeVar("Answer")
Tell = Callable[[str, str], None]
"""(subject, text): said once in a run for each subject; without a subject always."""
DISAGREEMENT = "disagreement"


@dataclass(frozen=True)
class Judgement:
    """An episode beside what is known of the task.

    Attributes
    ----------
    success : bool or None
        None where there is no rule, or it could not be asked.
    disagreement : Disagreement or None
        None where nothing is known, or it could not be asked.
    fault : FunctionFault or None
        Of a known function that failed.
    """

    success: bool | None
    disagreement: Disagreement | None
    fault: FunctionFault | None = None


class Watch:
    """Judges the episodes of a run, as ``on_env_error`` and ``on_disagreement`` ask.

    Parameters
    ----------
    config : AgentConfig
    task : Task
    env : FlatEnv
    """

    def __init__(self, config: AgentConfig, task: Task, env: FlatEnv) -> None:
        self.config, self.task, self.env = config, task, env

    def judge(self, episode: Episode) -> Judgement:
        """Ask all known functions; one that fails costs nothing but its answer."""
        found, fault = _asked(lambda: disagreement(self.task, self.env, episode))
        success, other = None, None
        if episode.fault is None:
            success, other = _asked(lambda: succeeded(self.task, episode))
        return Judgement(success, found, fault or other)

    def verdict(self, row: TrialRow, episode: Episode, judgement: Judgement, tell: Tell) -> UserError | None:
        """Tell of what went wrong in a trial that was kept, and give the error that should end the learning."""
        kept = f"its {_steps(episode)} are kept"
        if judgement.fault is not None:
            error = FunctionFault(f"trial {row.trial}: {judgement.fault}; {kept}")
            error.__cause__ = judgement.fault
            return error
        differs = self._differs(row, episode, judgement.disagreement, tell)
        if episode.fault is None:
            return differs
        text = f"trial {row.trial}: {episode.fault}; its {_steps(episode)} before are kept"
        if self.config.on_env_error == "stop":
            fault = EnvironmentFault(f"{text} (on_env_error = 'continue' would go on with the next trial)")
            fault.__cause__ = episode.fault
            return fault
        tell("", f"{text}, and the next trial follows")
        return differs

    def _differs(self, row: TrialRow, episode: Episode, found: Disagreement | None, tell: Tell) -> UserError | None:
        if found is None or not found.steps:
            return None
        text = f"trial {row.trial}: {found.text}; so at {found.steps} of its {_steps(episode)}"
        if self.config.on_disagreement == "stop":
            return UserError(f"{text}; they are kept (on_disagreement = 'continue' would go on with what is known)")
        tell(DISAGREEMENT, f"{text}. What is known is used all the same (said once; later trials count such steps)")
        return None


def _asked(ask: Callable[[], Answer]) -> tuple[Answer | None, FunctionFault | None]:
    """An answer, or why there is none."""
    try:
        return ask(), None
    except FunctionFault as fault:
        return None, fault


def succeeded(task: Task, episode: Episode) -> bool | None:
    """The task's success rule on the true states; None where it has none.

    Raises
    ------
    FunctionFault
        When it raises, or gives neither True nor False.
    """
    if task.success is None:
        return None
    try:
        value = task.success(episode.states, np)
    except Exception as error:  # whatever somebody's function raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise FunctionFault(f"the known success fails on {_told(episode)}: {reason}") from error
    if not says_yes_or_no(value):
        raise FunctionFault(f"the known success gives {shown(value)} for {_told(episode)}: expected True or False")
    return bool(value)


def _told(episode: Episode) -> str:
    """The states of an episode, by the last of them."""
    last = [float(f"{value:.6g}") for value in episode.states[-1].tolist()]
    return f"states {episode.states.shape}, the last of them {last}"


def _steps(episode: Episode) -> str:
    count = len(episode.actions)
    return f"{count} step{'' if count == 1 else 's'}"
